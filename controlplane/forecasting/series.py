"""From windows of facts to an evenly spaced series: the shape that forecasters want."""

from collections.abc import Iterable, Iterator, Sequence
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
    return next(all_series_of(history, [metric]))


def all_series_of(history: Sequence[Observation], metrics: Iterable[str]) -> Iterator[Series | None]:
    """`series_of` of several metrics of the same windows, in the order of `metrics`."""
    gaps = [(b.window_end - a.window_end).total_seconds() for a, b in pairwise(history)]
    step_s = median(gaps) if gaps else history[0].window_s if history else 0.0
    places = [
        round((history[-1].window_end - seen.window_end).total_seconds() / step_s) for seen in history if step_s > 0
    ]
    for metric in metrics:
        yield _on_grid(history, places, step_s, metric) if places else None


def _on_grid(history: Sequence[Observation], places: Sequence[int], step_s: float, metric: str) -> Series | None:
    """places: how many steps each window lies before the newest."""
    slots: dict[int, float] = {}
    for seen, place in zip(history, places, strict=True):
        value = getattr(seen, metric)
        if value is not None:
            slots.setdefault(place, float(value))
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
    return Series(metric, history[-1].window_end, step_s, tuple(reversed(values))) if values else None
