"""What answers may lose: from the nodes' own records of the levels, by the rule of the replay benchmark."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inference_node.contract.quality import FULL_PRECISIONS, NodeQuality
from inference_node.contract.settings import KvPrecision
from trimtab.surge_bench.level import Level


@dataclass(frozen=True, slots=True)
class Budget:
    """Shares by which perplexity grows. `average`: what an answer token may lose on average over a run; `most`: at any moment."""

    fastest: Level
    average: float
    most: float

    @classmethod
    def of(cls, fastest: Level, losses: Mapping[str, float], given: float | None = None) -> "Budget":
        """Half of what the fastest level loses: it may answer half of the tokens, and no fixed choice of it keeps the budget.

        given: an average instead of that rule's.
        """
        most = losses[fastest.name]
        return cls(fastest, most / 2, most) if given is None else cls(fastest, given, max(given, most))

    def allows(self, loss: float) -> bool:
        return loss <= self.average


def losses_of(nodes: Iterable[NodeQuality | None]) -> dict[str, float]:
    """Loss by the name of each level that every node has a good record of, the worst node's. Full precision loses nothing."""
    known = [{} if quality is None else _good(quality) for quality in nodes]
    found = {level.value: 0.0 for level in FULL_PRECISIONS}
    for name in set.intersection(*(set(each) for each in known)) if known else set():
        found.setdefault(name, max(each[name] for each in known))
    return found


def _good(quality: NodeQuality) -> dict[str, float]:
    return {
        Level(record.precision, record.pruning_threshold).name: record.loss_ratio
        for record in quality.records
        if quality.holds(record) and record.kv_precision is KvPrecision.MODEL
    }


def quality_in(capabilities: Mapping[str, Any]) -> NodeQuality | None:
    """Out of what the API says of a node."""
    told = capabilities.get("quality")
    return None if told is None else NodeQuality.model_validate(told)
