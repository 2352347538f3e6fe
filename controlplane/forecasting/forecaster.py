"""What a forecaster is and what it returns: quantiles per step ahead, never one bare number."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """Value at one moment ahead: 10 %, 50 % and 90 % quantile, in the metric's unit; q10 <= q50 <= q90, none below 0."""

    at: datetime
    q10: float
    q50: float
    q90: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Points ahead of `made_at`, one each `step_s` seconds, oldest first.

    `scores` is the past pinball loss per model; lower is better. `spike_probability`: calibrated, that the pool's latency breaks
    its SLO for two minutes, beginning within the next ten; None where nobody can say.
    """

    metric: str
    made_at: datetime
    step_s: float
    points: tuple[ForecastPoint, ...]
    model: str
    scores: Mapping[str, float] = field(default_factory=dict)
    spike_probability: float | None = None


Predictor = Callable[[Sequence[float], int], list[float]]
"""(series, steps) -> the next `steps` values after `series`; oldest first, evenly spaced, each >= 0."""


def predictions(predictor: Predictor, series: Sequence[float], origins: range, steps: int) -> Iterable[Sequence[float]]:
    """For each origin what it says of `series[:origin]`.

    A predictor that has a method `sweep(series, origins, steps)` tells all of them in one pass over the series, up to rounding.
    """
    sweep = getattr(predictor, "sweep", None)
    if sweep is not None:
        found: list[list[float]] = sweep(series, origins, steps)
        return found
    return (predictor(series[:origin], steps) for origin in origins)


class Forecaster(Protocol):
    """A method for point forecasts. Fitting is apart from predicting: a fit is dear and lasts, a prediction is cheap."""

    @property
    def name(self) -> str: ...

    def fit(self, series: Sequence[float]) -> Predictor:
        """Learns from `series` what predictions need. Raises CannotForecast when it is too short or the fit did not converge."""
        ...


class CannotForecast(Exception):
    """This method has nothing to say about this series; its score is infinite, never that of the baseline."""
