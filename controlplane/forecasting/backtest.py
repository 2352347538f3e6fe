"""Scores a forecaster on the series' own past: rolling origin, pinball loss, and the residuals that become its bands.

The fit sees the first part only; each later point is then an origin from which the known past is carried forward. Nothing after
an origin takes part in its prediction (tests shuffle the future and compare).
"""

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.forecasting.forecaster import CannotForecast, Forecaster, Predictor, predictions

FIT_SHARE = 0.5
_MIN_ORIGINS = 4


@dataclass(frozen=True, slots=True)
class Backtest:
    """`score` is the mean pinball loss at the 50 % and 90 % quantile, in the series' unit; lower is better.

    residuals: per horizon step, actual minus predicted, one per origin, oldest origin first.
    """

    predictor: Predictor
    score: float
    residuals: tuple[tuple[float, ...], ...]


def backtest(forecaster: Forecaster, values: Sequence[float], steps: int, *, max_origins: int = 48) -> Backtest:
    """Raises CannotForecast when the method cannot be fitted or the series leaves too few origins."""
    split = max(1, int(len(values) * FIT_SHARE))
    predictor = forecaster.fit(values[:split])
    # An origin needs one known value ahead at least; far ones see shorter horizons near the end of the series.
    origins = range(max(split, len(values) - max_origins), len(values))
    if len(origins) < _MIN_ORIGINS:
        raise CannotForecast(f"needs {_MIN_ORIGINS} origins, has {len(origins)}")
    residuals: list[list[float]] = [[] for _ in range(steps)]
    # Of each step the residuals that are realised at the origin: those of origins step + 1 or more ago. Kept in order of size.
    ranked: list[list[float]] = [[] for _ in range(steps)]
    losses: list[float] = []
    for origin, ahead in zip(origins, predictions(predictor, values, origins, steps), strict=True):
        for step, actual in enumerate(values[origin : origin + steps]):
            if (newest := len(residuals[step]) - step - 1) >= 0:
                insort(ranked[step], residuals[step][newest])
            upper = ahead[step] + _of_ranked(ranked[step], 0.9)
            losses.append(pinball(actual, ahead[step], 0.5) + pinball(actual, upper, 0.9))
            residuals[step].append(actual - ahead[step])
    return Backtest(predictor, sum(losses) / len(losses), tuple(map(tuple, residuals)))


def pinball(actual: float, predicted: float, q: float) -> float:
    """Quantile loss (Koenker and Bassett, 1978): q times what was undershot, 1 - q times what was overshot."""
    miss = actual - predicted
    return max(q * miss, (q - 1) * miss)


def quantile(residuals: Sequence[float], q: float) -> float:
    """Quantile of residuals by the rank of split conformal prediction, ceil(q (n + 1)): with few of them it leans outward.

    0 when there is none.
    """
    return _of_ranked(sorted(residuals), q)


def _of_ranked(ranked: Sequence[float], q: float) -> float:
    if not ranked:
        return 0.0
    rank = q * (len(ranked) + 1)
    outward = math.ceil(rank) if q >= 0.5 else math.floor(rank)
    return ranked[min(max(outward, 1), len(ranked)) - 1]
