"""ARIMA(2,1,2) of log(1 + value), by two least-squares regressions, then carried forward by its recursion.

Source: Hannan and Rissanen, "Recursive estimation of mixed autoregressive-moving average order", Biometrika 69 (1982): a long
autoregression gives the innovations, a regression on values and innovations gives both parts. It takes a millisecond where
maximum likelihood takes hundreds, so it may race in a tick. On the log, errors are relative and no forecast falls below zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.forecaster import CannotForecast, Predictor

_MIN_VALUES = 32
_LONG = 6  # order of the autoregression that stands in for the innovations
_RIDGE = 1e-3
# Sums of weights beyond this make a recursion that runs away.
_STABLE = 0.98
_CAP = 3.0  # a forecast leaves the newest level by a factor of e^3 at most


class Arima:
    """Last-value plus what the newest changes and surprises say of the next ones."""

    @property
    def name(self) -> str:
        return "arima_log"

    def fit(self, series: Sequence[float]) -> Predictor:
        if len(series) < _MIN_VALUES:
            raise CannotForecast(f"needs {_MIN_VALUES} values, has {len(series)}")
        change = np.diff(np.log1p(np.asarray(series, dtype=float)))
        if not np.isfinite(change).all() or float(np.ptp(change)) < 1e-9:
            raise CannotForecast("the series does not change, or is no series of rates")
        surprise = _surprises(change)
        table = np.column_stack([change[_LONG - by : -by] for by in (1, 2)])
        missed = np.column_stack([surprise[_LONG - by : -by] for by in (1, 2)])
        weights = _solve(np.column_stack([table, missed]), change[_LONG:])
        ar, ma = weights[:2], weights[2:]
        for part in (ar, ma):
            size = float(np.abs(part).sum())
            if size > _STABLE:
                part *= _STABLE / size
        return _Recursion(float(ar[0]), float(ar[1]), float(ma[0]), float(ma[1]))


@dataclass(frozen=True, slots=True)
class _Recursion:
    ar1: float
    ar2: float
    ma1: float
    ma2: float

    def __call__(self, series: Sequence[float], steps: int) -> list[float]:
        return self.sweep(series, range(len(series), len(series) + 1), steps)[0]

    def sweep(self, series: Sequence[float], origins: range, steps: int) -> list[list[float]]:
        logs = [math.log1p(max(0.0, value)) for value in series[: origins[-1]]]
        before, older, miss, missed = 0.0, 0.0, 0.0, 0.0
        found = []
        for i, level in enumerate(logs):
            if i:
                change = level - logs[i - 1]
                foreseen = self.ar1 * before + self.ar2 * older + self.ma1 * miss + self.ma2 * missed
                miss, missed = change - foreseen, miss
                before, older = change, before
            if i + 1 in origins:
                found.append(self._ahead(level, before, older, miss, missed, steps))
        return found

    def _ahead(self, newest: float, before: float, older: float, miss: float, missed: float, steps: int) -> list[float]:
        level, out = newest, []
        for _ in range(steps):
            foreseen = self.ar1 * before + self.ar2 * older + self.ma1 * miss + self.ma2 * missed
            miss, missed = 0.0, miss
            before, older = foreseen, before
            level = min(max(level + foreseen, 0.0), newest + _CAP)
            out.append(math.expm1(level))
        return out


def _surprises(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a long autoregression did not foresee; 0 where it has too little before it."""
    rows = np.lib.stride_tricks.sliding_window_view(change, _LONG)[:-1, ::-1]
    out = np.zeros(len(change))
    out[_LONG:] = change[_LONG:] - rows @ _solve(rows, change[_LONG:])
    return out


def _solve(table: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    penalty = _RIDGE * float(np.trace(table.T @ table)) / table.shape[1] * np.eye(table.shape[1])
    return np.asarray(np.linalg.solve(table.T @ table + penalty, table.T @ target))
