"""One forecast of many: weights by past loss, moved online, so that the mixture does about as well as the best of them and
often better.

Source: Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games" (2006), ch. 2 (exponentially weighted average) and 5.2
(fixed share, Herbster and Warmuth, 1998). Weights at an origin rest on errors realised by then. Until a method has shown
something it counts as a little worse than the newest value, so that a short past does not follow a lucky method.
"""

from collections.abc import Sequence

import numpy as np

from controlplane.forecasting.load.arrays import Floats

_MEMORY = 0.003  # weight of the newest loss: some hundred steps are remembered
_SHARPNESS = 40.0
_SHARE = 0.01
# What a method without a past is taken to be worse by than the newest value; fixed-parameter ARIMA is the safe one on
# loads of minutes.
DOUBTS = {"naive": 0.0, "sarimax": 0.0, "damped_holt": 0.02}
DOUBT = 0.1
_DOUBT_STEPS = (
    10.0  # for so many steps of evidence, and as many more as the horizon has: neighbouring errors repeat each other
)


def mix(actual: Floats, forecasts: Floats, ahead: int, doubts: Sequence[float], first: int = 0) -> Floats:
    """actual: [N]; forecasts: [N, M], row i made `ahead` steps before i for i, NaN where a method says nothing; column 0 is the
    baseline; doubts: [M] prior excess over its loss. Losses before `first` are let be: there, fitted methods would be
    judged on what they were fitted to. Returns [N]."""
    count = forecasts.shape[1]
    usual, told = np.zeros(count), np.zeros(count)
    doubt = 1.0 + np.asarray(doubts)
    weights = _weights(doubt - 1.0)
    out = np.full(len(actual), np.nan)
    for i in range(len(actual)):
        known = i - ahead
        if known >= first:
            loss = np.abs(actual[known] - forecasts[known])
            seen = np.isfinite(loss)
            told = np.minimum(told + seen, 1.0 / _MEMORY)
            usual = np.where(seen, usual + (np.nan_to_num(loss) - usual) / np.maximum(told, 1.0), usual)
            if usual[0] > 0:
                prior = _DOUBT_STEPS + ahead
                relative = (told * usual / usual[0] + prior * doubt) / (told + prior)
                weights = _weights(relative - relative.min())
        speak = np.isfinite(forecasts[i])
        if speak.any():
            out[i] = float(weights[speak] @ forecasts[i][speak] / weights[speak].sum())
    return out


def _weights(excess: Floats) -> Floats:
    weights = np.exp(-_SHARPNESS * excess)
    mixed: Floats = (1 - _SHARE) * weights / weights.sum() + _SHARE / len(weights)
    return mixed
