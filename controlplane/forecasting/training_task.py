"""What a training process is told: light enough for the controller to import, which must not load scikit-learn."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

# forecasting design 3.5: until so many spikes were seen, the fluid model alone speaks.
MIN_SPIKES = 20
PAST = timedelta(days=14)  # what is kept of windows


@dataclass(frozen=True, slots=True)
class PoolTask:
    """A pool to learn from. full_rows: sequences that a node decodes at most at once."""

    pool_id: str
    slo_s: float
    full_rows: float


@dataclass(frozen=True, slots=True)
class Task:
    """What to learn from, until when."""

    database_url: str
    until: datetime
    pools: tuple[PoolTask, ...]
    seed: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"until": self.until.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        data = json.loads(text)
        pools = tuple(PoolTask(**pool) for pool in data["pools"])
        return cls(data["database_url"], datetime.fromisoformat(data["until"]), pools, data["seed"])
