"""Linear quantile regression of the change ahead on what the series did lately: the median of it, fitted by reweighted squares.

Source: Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978); the fit by iteratively reweighted least squares
(Schlossmacher, 1973), a dozen small solves instead of a linear programme. One line for the step ahead and one for the far end;
steps between are on the way from one to the other.
"""

from collections.abc import Sequence

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

        def predict(known: Sequence[float], steps: int) -> list[float]:
            if len(known) < max(_WIDTHS):
                raise CannotForecast("the series is shorter than the longest mean")
            newest = np.log1p(np.maximum(np.asarray(known[-max(_WIDTHS) :], dtype=float), 0.0))
            row = _row(newest)
            near, far = (float(row @ line) for line in lines)
            out = []
            for step in range(1, steps + 1):
                share = min(1.0, (step - 1) / (_FAR - 1))
                out.append(float(np.expm1(max(0.0, newest[-1] + near + share * (far - near)))))
            return out

        return predict


def _row(newest: Floats) -> Floats:
    return np.asarray([newest[-width:].mean() - newest[-1] for width in _WIDTHS] + [newest[-2] - newest[-1]])


def _table(logs: Floats) -> Floats:
    """[N, F] as `_row` of each prefix; rows before the longest mean are not to be used."""
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
