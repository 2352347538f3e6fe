"""Linear quantile regression of the change ahead on what the series did lately: the median of it, fitted by reweighted squares.

Source: Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978); the fit by iteratively reweighted least squares
(Schlossmacher, 1973), a dozen small solves instead of a linear programme. One line for the step ahead and one for the far end;
steps between are on the way from one to the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.forecaster import CannotForecast, Predictor

_MIN_VALUES = 32
_FAR = 6  # steps
_WIDTHS = (3, 6, 12)
_ROUNDS = 12
_SHRINK = 2.0
Floats = NDArray[np.float64]


class QuantileLine:
    """Says the newest value plus a line through its distances from shorter and longer means. On log scale."""

    @property
    def name(self) -> str:
        return "quantile_line"

    def fit(self, series: Sequence[float]) -> Predictor:
        if len(series) < _MIN_VALUES:
            raise CannotForecast(f"needs {_MIN_VALUES} values, has {len(series)}")
        logs = np.log1p(np.asarray(series, dtype=float))
        if not np.isfinite(logs).all() or float(np.ptp(logs)) < 1e-9:
            raise CannotForecast("the series does not change, or is no series of rates")
        table = _table(logs)
        first = max(_WIDTHS) - 1
        lines = [_median_line(table[first:-ahead], (logs[ahead:] - logs[:-ahead])[first:]) for ahead in (1, _FAR)]

        return _Lines(*lines)


@dataclass(frozen=True, slots=True)
class _Lines:
    """[F] each: weights of the features for the step ahead and for the far end."""

    near: Floats
    far: Floats

    def __call__(self, series: Sequence[float], steps: int) -> list[float]:
        newest = series[-max(_WIDTHS) :]
        return self.sweep(newest, range(len(newest), len(newest) + 1), steps)[0]

    def sweep(self, series: Sequence[float], origins: range, steps: int) -> list[list[float]]:
        if origins[0] < max(_WIDTHS):
            raise CannotForecast("the series is shorter than the longest mean")
        logs = np.log1p(np.maximum(np.asarray(series[: origins[-1]], dtype=float), 0.0))
        at = np.asarray(origins) - 1
        rows = _table(logs)[at]
        near, far = (rows @ self.near)[:, None], (rows @ self.far)[:, None]
        share = np.minimum(1.0, np.arange(steps) / (_FAR - 1))[None, :]
        ahead: list[list[float]] = np.expm1(np.maximum(0.0, logs[at][:, None] + near + share * (far - near))).tolist()
        return ahead


def _table(logs: Floats) -> Floats:
    """[N, F] of each prefix: the distances of its means from its newest value, and its last change back; rows before the longest
    mean are not to be used."""
    total = np.concatenate([[0.0], np.cumsum(logs)])
    index = np.arange(1, len(logs) + 1)
    means = []
    for width in _WIDTHS:
        start = np.maximum(index - width, 0)
        means.append((total[index] - total[start]) / (index - start) - logs)
    return np.column_stack([*means, np.concatenate([[0.0], logs[:-1] - logs[1:]])])


def _median_line(table: Floats, target: Floats) -> Floats:
    weight: Floats = np.ones(len(target))
    penalty = _SHRINK * np.diag(np.maximum((table**2).mean(axis=0), 1e-12))
    line: Floats = np.zeros(table.shape[1])
    for _ in range(_ROUNDS):
        line = np.asarray(
            np.linalg.solve((table.T * weight) @ table + penalty, (table.T * weight) @ target), dtype=float
        )
        miss = np.abs(target - table @ line)
        weight = 1.0 / np.maximum(miss / max(float(miss.mean()), 1e-12), 0.1)
    return line
