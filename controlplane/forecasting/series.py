"""From windows of facts to an evenly spaced series: the shape that forecasters want."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from controlplane.telemetry.observation import Observation

# A hole of up to so many steps is bridged with the value before it; a longer one ends what may be learned from.
_MAX_HOLE_STEPS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one metric, oldest first, `step_s` apart; the last one belongs to `end`."""

    metric: str
    end: datetime
    step_s: float
    values: tuple[float, ...]


def series_of(history: Sequence[Observation], metric: str) -> Series | None:
    """The newest unbroken stretch of `metric` in `history` (oldest first), or None when its newest windows know nothing.

    The step is the usual distance of two windows, which may overlap (a window of 10 s each 5 s).
    """
    if not history:
        return None
    gaps = [(b.window_end - a.window_end).total_seconds() for a, b in pairwise(history)]
    step_s = median(gaps) if gaps else history[0].window_s
    if step_s <= 0:
        return None
    end = history[-1].window_end
    slots: dict[int, float] = {}
    for seen in history:
        value = getattr(seen, metric)
        if value is not None:
            slots.setdefault(round((end - seen.window_end).total_seconds() / step_s), float(value))
    values: list[float] = []
    hole = 0
    for slot in range(max(slots, default=-1) + 1):  # newest first
        if slot in slots:
            values.extend([slots[slot]] * (hole + 1))  # the value, and the hole after it
            hole = 0
        else:
            hole += 1
            if hole > _MAX_HOLE_STEPS:
                break
    return Series(metric, end, step_s, tuple(reversed(values))) if values else None
