"""Methods in the race. Each learns from the values before `split` and then says, at every origin, what comes `ahead` steps on.

`run(values, split, horizons)` gives [N, H]: row i is the forecast made at i (of values[: i + 1]) for i + horizons[h]. Only
what is fitted is fixed at `split`; states move with the data. A method that cannot be fitted raises CannotForecast and is
out, never a baseline in disguise.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from statsmodels.tsa.holtwinters import Holt
from statsmodels.tsa.statespace.sarimax import SARIMAX

from controlplane.forecasting.forecaster import CannotForecast
from controlplane.forecasting.load.arrays import Floats, shifted

Method = Callable[[Floats, int, Sequence[int]], Floats]

_MAX_FIT = 3 * 1440  # steps: three days of minutes are enough for a fit, and bound its time
_MIN_FIT = 12
_DAY = 1440
_PHI = 0.9
_SHRINK = 20.0


def naive(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """The newest value."""
    return np.column_stack([values] * len(horizons))


def mean_of_five(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """Mean of the newest five."""
    recent = np.mean([shifted(values, by) for by in range(5)], axis=0)
    return np.column_stack([recent] * len(horizons))


def seasonal_naive(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """The value at the same time a day ago."""
    if split < _DAY + max(horizons):
        raise CannotForecast("less than a day of past")
    return np.column_stack([shifted(values, _DAY - ahead) for ahead in horizons])


def damped_holt(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """Level and a trend that fades; fitted by statsmodels, carried on by its recursion (Gardner and McKenzie, 1985)."""
    past = _past(values, split)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stopped early is still a fit; what counts is how it forecasts
        try:
            fitted = Holt(past, damped_trend=True, initialization_method="estimated").fit(
                damping_trend=_PHI, minimize_kwargs={"options": {"maxiter": 60}}
            )
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            raise CannotForecast(f"the fit failed: {error}") from error
    alpha, beta = float(fitted.params["smoothing_level"]), float(fitted.params["smoothing_trend"])
    if not (0 <= alpha <= 1 and 0 <= beta <= 1):
        raise CannotForecast("the fit found no smoothing weights between 0 and 1")
    level, trend = float(values[0]), 0.0
    states = np.empty((len(values), 2))
    for i, value in enumerate(values.tolist()):
        foreseen = level + _PHI * trend
        risen = alpha * value + (1 - alpha) * foreseen
        trend = beta * (risen - level) + (1 - beta) * _PHI * trend
        level = risen
        states[i] = level, trend
    reach = [sum(_PHI**k for k in range(1, ahead + 1)) for ahead in horizons]
    return np.column_stack([states[:, 0] + factor * states[:, 1] for factor in reach])


def sarimax(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """ARIMA(2,1,2) of log(1 + value): parameters fitted once, the Kalman filter carried on."""
    past = np.log1p(_past(values, split))
    if len(past) < 60:
        raise CannotForecast("less than an hour of past")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = SARIMAX(past[-_DAY:], order=(2, 1, 2)).fit(disp=False, maxiter=40)
            everything = fitted.apply(np.log1p(values)).filter_results
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            raise CannotForecast(f"the fit failed: {error}") from error
    # predicted_state[:, i + 1] is the state one step after i, of data up to i; the transition takes it further.
    state = everything.predicted_state[:, 1:]
    transition, design = everything.transition[:, :, 0], everything.design[:, :, 0]
    out = [np.expm1((design @ np.linalg.matrix_power(transition, ahead - 1) @ state)[0]) for ahead in horizons]
    return np.column_stack(out)


def ridge(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """Direct regression per horizon on log scale: recent values, means over 3 to 120 steps, and what a day ago came next."""
    return _regress(values, split, horizons, [])


def stacked(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
    """The same regression with the forecasts of Holt and SARIMAX among its inputs: it learns where each of them errs."""
    return _regress(values, split, horizons, [damped_holt(values, split, horizons), sarimax(values, split, horizons)])


def _regress(values: Floats, split: int, horizons: Sequence[int], others: Sequence[Floats]) -> Floats:
    if split < 120 + max(horizons):
        raise CannotForecast("less than two hours of past")
    logs = np.log1p(values)
    total = np.concatenate([[0.0], np.cumsum(logs)])
    index = np.arange(1, len(logs) + 1)

    def mean(width: int) -> Floats:
        first = np.maximum(index - width, 0)
        found: Floats = (total[index] - total[first]) / (index - first)
        return found

    means = {width: mean(width) for width in (3, 5, 10, 20, 40, 120)}
    has_day = split > 2 * _DAY
    out = []
    for h, ahead in enumerate(horizons):
        # Everything relative to the newest value: what is learned is the change, so a drifting level does no harm.
        columns = [shifted(logs, by) - logs for by in (1, 2, 3, 4)] + [level - logs for level in means.values()]
        columns += [np.log1p(np.maximum(other[:, h], 0.0)) - logs for other in others]
        if has_day:
            day = shifted(means[5], _DAY)
            columns += [shifted(means[10], _DAY - ahead) - day, shifted(means[3], _DAY - ahead) - logs, day - means[5]]
        table = np.column_stack([*columns, np.ones(len(logs))])
        first = _DAY + 60 if has_day else 20
        rows = slice(max(first, split - ahead - 10 * _DAY), split - ahead)
        target = (np.concatenate([logs[ahead:], np.full(ahead, np.nan)]) - logs)[rows]
        scale = np.maximum(table[rows].std(axis=0), 1e-6)
        scaled = table[rows] / scale
        # Rows that share minutes are no independent evidence: a long horizon has fewer of them to learn from.
        penalty = np.eye(scaled.shape[1]) * (_SHRINK * ahead + 0.003 * len(target))
        weights = np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ target) / scale
        out.append(np.expm1(np.clip(logs + table @ weights, 0.0, 50.0)))
    return np.column_stack(out)


METHODS: dict[str, Method] = {
    "naive": naive,
    "mean_of_5": mean_of_five,
    "seasonal_naive": seasonal_naive,
    "damped_holt": damped_holt,
    "sarimax": sarimax,
    "ridge": ridge,
    "stacked": stacked,
}


def _past(values: Floats, split: int) -> Floats:
    past = values[max(0, split - _MAX_FIT) : split]
    if len(past) < _MIN_FIT:
        raise CannotForecast(f"needs {_MIN_FIT} values, has {len(past)}")
    return past
