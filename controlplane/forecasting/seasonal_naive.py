"""What was one season ago comes again. The season is read off the series itself, as the lag of strongest autocorrelation."""

from collections.abc import Sequence

import numpy as np

from controlplane.forecasting.forecaster import CannotForecast, Predictor

# A season must be seen twice in full, last at least so many steps (below, it is noise or trend), and be this pronounced.
_MIN_PERIOD = 12
_MIN_CORRELATION = 0.3


class SeasonalNaive:
    """Repeats the values of one season ago."""

    @property
    def name(self) -> str:
        return "seasonal_naive"

    def fit(self, series: Sequence[float]) -> Predictor:
        period = find_period(series)
        if period is None:
            raise CannotForecast("no season stands out")

        def predict(known: Sequence[float], steps: int) -> list[float]:
            if len(known) < period:
                raise CannotForecast("the series is shorter than a season")
            return [max(0.0, known[len(known) - period + step % period]) for step in range(steps)]

        return predict


def find_period(series: Sequence[float]) -> int | None:
    """Length of the season in steps, or None when none repeats clearly within the series."""
    values = np.asarray(series, dtype=float)
    longest = len(values) // 2
    if longest <= _MIN_PERIOD:
        return None
    centred = values - values.mean()
    power = float(centred @ centred)
    if power <= 0:
        return None
    lags = np.arange(1, longest + 1)
    # Each sum has fewer terms than the power; scaled up, so that long lags are not held back by that alone.
    correlation = np.array([centred[lag:] @ centred[:-lag] / power * len(values) / (len(values) - lag) for lag in lags])
    # The lag must be a local peak: next to lag 0 every smooth series correlates with itself.
    peaks = [
        lag
        for lag in range(_MIN_PERIOD, longest)
        if correlation[lag - 1] >= correlation[lag - 2] and correlation[lag - 1] >= correlation[lag]
    ]
    if not peaks:
        return None
    best = max(peaks, key=lambda lag: float(correlation[lag - 1]))
    return best if correlation[best - 1] >= _MIN_CORRELATION else None
