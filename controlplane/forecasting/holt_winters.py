"""Damped Holt: level plus a trend that fades, fitted by statsmodels and then carried forward by its O(1) recursion.

Source: Gardner and McKenzie, "Forecasting Trends in Time Series", Management Science 31 (1985); Hyndman and Athanasopoulos,
"Forecasting: Principles and Practice", 3rd ed., 8.2. We fit on a part of the past and run the recursion over the rest, since
a refit at each step costs time and gains little.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.tsa.holtwinters import Holt

from controlplane.forecasting.forecaster import CannotForecast, Predictor

_MIN_VALUES = 12
# Damping in the usual range: below it the trend fades within two steps, above it the trend runs off.
_DAMPING = 0.9


@dataclass(frozen=True, slots=True)
class _Smoothing:
    """alpha: weight of news for the level, beta: for the trend, phi: damping of the trend per step; start values of both."""

    alpha: float
    beta: float
    phi: float
    level: float
    trend: float

    def __call__(self, series: Sequence[float], steps: int) -> list[float]:
        return self.sweep(series, range(len(series), len(series) + 1), steps)[0]

    def sweep(self, series: Sequence[float], origins: range, steps: int) -> list[list[float]]:
        level, trend = self.level, self.trend
        found = []
        for place, value in enumerate(series[: origins[-1]], start=1):
            foreseen = level + self.phi * trend
            risen = self.alpha * value + (1 - self.alpha) * foreseen
            trend = self.beta * (risen - level) + (1 - self.beta) * self.phi * trend
            level = risen
            if place in origins:
                found.append(self._ahead(level, trend, steps))
        return found

    def _ahead(self, level: float, trend: float, steps: int) -> list[float]:
        ahead, damped = [], 0.0
        for _ in range(steps):
            damped = self.phi * (damped + 1.0)  # phi + phi^2 + ... : what is left of the trend after so many steps
            ahead.append(max(0.0, float(level + damped * trend)))
        return ahead


class HoltWinters:
    """Damped Holt without season. `maxiter` bounds the time of a fit; one that did not converge by then does not count."""

    def __init__(self, maxiter: int = 60) -> None:
        self._maxiter = maxiter

    @property
    def name(self) -> str:
        return "holt_winters"

    def fit(self, series: Sequence[float]) -> Predictor:
        if len(series) < _MIN_VALUES:
            raise CannotForecast(f"needs {_MIN_VALUES} values, has {len(series)}")
        values = np.asarray(series, dtype=float)
        if float(np.ptp(values)) <= 1e-12:
            return _Smoothing(alpha=0.5, beta=0.0, phi=_DAMPING, level=float(values[0]), trend=0.0)
        level = float(values[: len(values) // 4].mean())
        with warnings.catch_warnings():
            # statsmodels tells by a warning that a fit failed; here that is an answer, not something to print.
            warnings.simplefilter("error")
            try:
                model = Holt(
                    values, damped_trend=True, initialization_method="known", initial_level=level, initial_trend=0.0
                )
                fitted = model.fit(damping_trend=_DAMPING, minimize_kwargs={"options": {"maxiter": self._maxiter}})
            except (Warning, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                raise CannotForecast(f"the fit failed: {error}") from error
        found = fitted.params
        alpha, beta = float(found["smoothing_level"]), float(found["smoothing_trend"])
        if not (0 <= alpha <= 1 and 0 <= beta <= 1):
            raise CannotForecast("the fit found no smoothing weights between 0 and 1")
        return _Smoothing(alpha, beta, _DAMPING, level, 0.0)
