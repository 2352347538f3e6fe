"""How right a pool's forecasts have been: what was foreseen beside what came, per horizon.

Errors stand beside those of the last value known when the forecast was made, since a number alone says nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.telemetry.observation import Observation

HORIZONS_S = (60.0, 300.0, 900.0)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One forecast as it was kept: `points` are {q10, q50, q90}, the first one `step_s` after `made_at`."""

    made_at: datetime
    step_s: float
    points: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class HorizonQuality:
    """Of forecasts so far ahead. Errors are mean absolute ones in the metric's unit; bias is forecast minus truth.

    coverage_80: share of truths between q10 and q90, nominally 0.8. Forecasts overlap in time, so `scored` of them say less than
    as many independent ones would. A truth that was not measured is not scored.
    """

    horizon_s: float
    scored: int
    coverage_80: float
    error: float
    last_value_error: float
    bias: float


def quality(
    forecasts: Sequence[Foreseen],
    observations: Sequence[Observation],
    metric: str,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> list[HorizonQuality]:
    """observations: oldest first. A horizon that no forecast reached, or whose truth is not known yet, is left out."""
    truth = Truth(observations, metric)
    found = (_at_horizon(forecasts, truth, horizon_s) for horizon_s in horizons_s)
    return [known for known in found if known is not None]


class Truth:
    """What a metric was, at any moment that was measured."""

    def __init__(self, observations: Sequence[Observation], metric: str) -> None:
        known = [
            (seen.window_end, float(value)) for seen in observations if _measured(seen, value := getattr(seen, metric))
        ]
        self._at = [at for at, _ in known]
        self._values = [value for _, value in known]

    def near(self, at: datetime, within_s: float) -> float | None:
        """The value of the window that ends nearest to `at`, if it ends `within_s` of it."""
        i = bisect_left(self._at, at)
        nearest = min(
            (j for j in (i - 1, i) if 0 <= j < len(self._at)), key=lambda j: abs(self._at[j] - at), default=None
        )
        if nearest is None or abs(self._at[nearest] - at) > timedelta(seconds=within_s):
            return None
        return self._values[nearest]


def _measured(seen: Observation, value: float | None) -> bool:
    return seen.usable and value is not None


def _at_horizon(forecasts: Sequence[Foreseen], truth: Truth, horizon_s: float) -> HorizonQuality | None:
    inside, errors, naive = [], [], []
    for forecast in forecasts:
        steps = round(horizon_s / forecast.step_s)
        if not 1 <= steps <= len(forecast.points):
            continue
        came = truth.near(forecast.made_at + timedelta(seconds=steps * forecast.step_s), forecast.step_s / 2)
        last = truth.near(forecast.made_at, forecast.step_s / 2)
        if came is None or last is None:
            continue
        point = forecast.points[steps - 1]
        inside.append(point["q10"] <= came <= point["q90"])
        errors.append(point["q50"] - came)
        naive.append(last - came)
    if not errors:
        return None
    return HorizonQuality(
        horizon_s=horizon_s,
        scored=len(errors),
        coverage_80=sum(inside) / len(inside),
        error=sum(map(abs, errors)) / len(errors),
        last_value_error=sum(map(abs, naive)) / len(naive),
        bias=sum(errors) / len(errors),
    )
