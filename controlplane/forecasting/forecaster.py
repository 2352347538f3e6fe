"""What a forecaster is and what it returns: quantiles per step ahead, never one bare number."""

from collections.abc import Mapping, Sequence
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

    `scores` is the past pinball loss per model; lower is better.
    """

    metric: str
    made_at: datetime
    step_s: float
    points: tuple[ForecastPoint, ...]
    model: str
    scores: Mapping[str, float] = field(default_factory=dict)


class Forecaster(Protocol):
    """Point forecasts of an evenly spaced series."""

    @property
    def name(self) -> str: ...

    def predict(self, series: Sequence[float], steps: int) -> list[float]:
        """The next `steps` values after `series` (oldest first, no gaps), each >= 0.

        Raises CannotForecast when the series is too short for the method or the fit did not converge.
        """
        ...


class CannotForecast(Exception):
    """This method has nothing to say about this series; its score is infinite, never that of the baseline."""
