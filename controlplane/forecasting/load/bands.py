"""Bands that keep their stated coverage while the load drifts: quantiles of the forecast's own errors, followed online.

Source: Angelopoulos, Candes and Tibshirani, "Conformal PID Control for Time Series Prediction" (2023), quantile tracking;
Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift" (2021). After each error the quantile
tracked for level a moves up by rate * a when the error lay above it and down by rate * (1 - a) when not, so that in the
long run it is exceeded in a share 1 - a of cases, whatever the series does. Split conformal from old errors covers 63-83 %
of a nominal 80 % on such loads.
"""

from collections.abc import Sequence

import numpy as np

from controlplane.forecasting.load.arrays import Floats

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)
# Step of the tracker in units of the running mean absolute error: larger follows drift, smaller keeps bands calm.
_RATE = 0.06
_MEMORY = 0.02
_ENOUGH = 10


class QuantileTracker:
    """Offsets to add to a point forecast, one per level. Errors are fed in order of time, as soon as they are known."""

    def __init__(self, levels: Sequence[float] = LEVELS, errors: Floats | None = None) -> None:
        """errors: earlier ones of the same forecaster, from which the offsets start."""
        self.levels = np.asarray(levels)
        known = errors[np.isfinite(errors)] if errors is not None else np.zeros(0)
        self.offsets = np.quantile(known, self.levels) if len(known) else np.zeros(len(self.levels))
        self.size = float(np.mean(np.abs(known))) if len(known) else 0.0

    def feed(self, error: float) -> None:
        """error: actual minus forecast; NaN and infinite ones are passed over."""
        if not np.isfinite(error):
            return
        self.size = abs(error) if self.size == 0.0 else self.size + _MEMORY * (abs(error) - self.size)
        above = error > self.offsets
        self.offsets = self.offsets + _RATE * self.size * np.where(above, self.levels, self.levels - 1.0)

    def around(self, forecast: float) -> Floats:
        """The quantiles, lowest first, none below 0."""
        quantiles: Floats = np.maximum(np.sort(forecast + self.offsets), 0.0)
        return quantiles


def track(actual: Floats, forecast: Floats, ahead: int, start: int, scale: Floats | None = None) -> Floats:
    """[N, L] quantiles around `forecast` [N], where forecast[i] was made at window i - ahead for window i.

    Errors before `start` set the trackers up. At its origin a forecast knows errors up to that origin only. scale: [N] >
    0, known at the origin; errors are followed relative to it.
    """
    unit = np.ones(len(actual)) if scale is None else np.maximum(scale, 1e-9)
    errors = (actual - forecast) / unit
    known = errors[:start]
    if np.isfinite(known).sum() < _ENOUGH:
        known = _stand_in(actual[:start] / unit[:start].clip(1e-9), ahead)
    tracker = QuantileTracker(errors=known)
    out = np.full((len(actual), len(LEVELS)), np.nan)
    fed = start
    for i in range(start, len(actual)):
        while fed <= i - ahead:
            tracker.feed(float(errors[fed]))
            fed += 1
        out[i] = np.maximum(np.sort(forecast[i] + tracker.offsets * unit[i]), 0.0)
    return out


def _stand_in(values: Floats, ahead: int) -> Floats:
    """Errors to expect where none are known yet: changes over what lag there is, grown as those of a random walk, both signs."""
    lag = max(1, min(ahead, len(values) // 3))
    change = values[lag:] - values[:-lag]
    change = change[np.isfinite(change)] * np.sqrt(ahead / lag)
    return np.concatenate([change, -change])
