"""Notices, window by window, that a series has left its usual range and stays out: what no forecast of the load sees coming.

Source: Page, "Continuous Inspection Schemes", Biometrika 41 (1954), the cumulative sum test, here on log residuals in units of
their own running spread. A forecast is asked what comes; this asks only whether what came is still what used to come.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from controlplane.telemetry.observation import Observation

# Half the shift that is to be found, and the sum that makes an alarm, in standard deviations (Lucas, 1976, for heavy tails:
# residuals are clipped, so that one outlier is never enough).
_SLACK, _ALARM, _CLIP = 1.0, 15.0, 4.0
_MEMORY_S = 1800.0  # of level and spread
_WARM_UP = 40  # windows before anything is said
_LEAST_SPREAD = 0.05  # of the log: below 5 % nothing is out of the ordinary
_PAUSE = timedelta(minutes=30)


class Direction(StrEnum):
    """Where to."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`usual` and `now` in the metric's unit; `for_windows`: since the sum began to grow."""

    metric: str
    direction: Direction
    usual: float
    now: float
    for_windows: int

    def message(self) -> str:
        return (
            f"{self.metric} has left its usual range: {self.now:.3g} where about {self.usual:.3g} was usual, "
            f"{self.direction.value} for {self.for_windows} windows."
        )


@dataclass(slots=True)
class CumulativeSum:
    """Of one series, both ways. Values are fed in the order of time; None and what is no number are passed over."""

    memory: float
    level: float | None = None
    variance: float = 0.0
    seen: int = 0
    up: float = 0.0
    down: float = 0.0
    up_for: int = 0
    down_for: int = 0

    def feed(self, value: float | None) -> Direction | None:
        """The direction in which it has left, where it just has."""
        if value is None or not math.isfinite(value) or value < 0:
            return None
        logged = math.log(value + 1e-3)
        if self.level is None:
            self.level = logged
            return None
        spread = max(math.sqrt(self.variance), _LEAST_SPREAD)
        away = min(max((logged - self.level) / spread, -_CLIP), _CLIP)
        # While it is out, level and spread learn slowly: else they would follow before the sum has told.
        weight = self.memory if self.seen >= _WARM_UP else max(self.memory, 1.0 / (self.seen + 2))
        self.level += weight * away * spread
        self.variance += weight * ((away * spread) ** 2 - self.variance)
        self.seen += 1
        if self.seen <= _WARM_UP:
            return None
        self.up, self.up_for = _grown(self.up + away - _SLACK, self.up_for)
        self.down, self.down_for = _grown(self.down - away - _SLACK, self.down_for)
        if max(self.up, self.down) < _ALARM:
            return None
        return Direction.UP if self.up >= self.down else Direction.DOWN

    def restart(self) -> None:
        """After an alarm: what is there now becomes usual."""
        self.up = self.down = 0.0
        self.up_for = self.down_for = 0


@dataclass(slots=True)
class AnomalyWatch:
    """Of one pool: latency up, load up or down. One alarm in half an hour."""

    step_s: float
    sums: dict[str, CumulativeSum] = field(default_factory=dict)
    told_at: datetime | None = None

    def feed(self, seen: Observation) -> Anomaly | None:
        """The newest window; what was not seen usably is passed over."""
        if not seen.usable:
            return None
        found = None
        for metric, directions in _WATCHED.items():
            kept = self.sums.setdefault(metric, CumulativeSum(min(1.0, self.step_s / _MEMORY_S)))
            value = getattr(seen, metric)
            usual = kept.level
            direction = kept.feed(value)
            if direction is None or usual is None:
                continue
            windows = kept.up_for if direction is Direction.UP else kept.down_for
            kept.restart()
            if direction in directions and found is None:
                found = Anomaly(metric, direction, math.exp(usual), float(value), windows)
        if found is None or (self.told_at is not None and seen.window_end - self.told_at < _PAUSE):
            return None
        self.told_at = seen.window_end
        return found


_WATCHED: Mapping[str, tuple[Direction, ...]] = {
    "ttft_p95_s": (Direction.UP,),
    "itl_p95_s": (Direction.UP,),
    "offered_rps": (Direction.UP, Direction.DOWN),
}


def _grown(total: float, windows: int) -> tuple[float, int]:
    return (total, windows + 1) if total > 0 else (0.0, 0)
