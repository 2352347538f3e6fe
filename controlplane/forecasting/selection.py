"""Which forecaster speaks for a series now: the one with the lowest past loss, and last-value wherever it is as good.

The choice is made anew at each call, since a series of a few hundred windows is scored in milliseconds.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from statistics import median

from controlplane.forecasting.arima import Arima
from controlplane.forecasting.backtest import Backtest, backtest, quantile
from controlplane.forecasting.forecaster import Forecast, Forecaster, ForecastPoint
from controlplane.forecasting.guard import Guard, checked
from controlplane.forecasting.holt_winters import HoltWinters
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.quantile_line import QuantileLine
from controlplane.forecasting.seasonal_naive import SeasonalNaive
from controlplane.forecasting.series import Series

FORECASTERS: tuple[Forecaster, ...] = (
    LastValue(),
    LastValue(window=6),
    SeasonalNaive(),
    HoltWinters(),
    Arima(),
    QuantileLine(),
)
_TIE = 0.02  # forecasting design: last-value wins ties within 2 %
_ENOUGH = 20  # residuals from which an empirical 90 % quantile stands on its own
_ENOUGH_TO_JUDGE = 8
_FAR = 2.5  # standard deviations: about one false shift in a hundred windows, each gone with the next


def select_forecast(
    series: Series, steps: int, forecasters: Sequence[Forecaster] = FORECASTERS, guard: Guard | None = None
) -> Forecast:
    """The forecast of the best method; `scores` holds each method's loss, absent for one that could not forecast.

    A method that raises or says NaN is out of the race; with a guard also one that hangs.
    """
    baseline = LastValue()
    tested = _tested(forecasters, series, steps, guard)
    scores = {name: found.score for name, found in tested.items()}
    if baseline.name not in tested:
        return _forecast(series, baseline.fit(series.values)(series.values, steps), [()] * steps, baseline.name, scores)
    name = min(scores, key=lambda candidate: scores[candidate])
    if scores[baseline.name] <= scores[name] * (1 + _TIE):
        name = baseline.name
    chosen = tested[name]
    if name != baseline.name and _has_shifted(chosen):
        # The level has moved and the chosen method has not seen it yet: what is there now says more than what it learned.
        now = baseline.fit(series.values)(series.values, steps)
        # How far off it usually was, before the shift: with the shift itself the band would promise another one.
        before = [residuals[:-2] for residuals in tested[baseline.name].residuals]
        return _forecast(series, now, before, f"{baseline.name} after a shift", scores)
    return _forecast(series, chosen.predictor(series.values, steps), chosen.residuals, name, scores)


def _tested(
    forecasters: Sequence[Forecaster], series: Series, steps: int, guard: Guard | None
) -> Mapping[str, Backtest]:
    """By name: each method's race against its own past, its forecast from now on checked. Those that cannot are left out."""

    def work(forecaster: Forecaster) -> Backtest:
        found = backtest(forecaster, series.values, steps)
        ahead = checked(found, found.predictor(series.values, steps))
        return replace(found, predictor=lambda known, count: ahead[:count])

    works = [(forecaster.name, partial(work, forecaster)) for forecaster in forecasters]
    if guard is not None:
        return guard.run(works)
    found = {}
    for name, each in works:
        with suppress(Exception):  # CannotForecast, or trouble of its own
            found[name] = each()
    return found


def _has_shifted(found: Backtest) -> bool:
    """Whether the newest two one-step errors are, together, far beyond the usual ones.

    The usual size is the median absolute error, which a past surge in the history hardly moves; 1.4826 makes it a standard
    deviation for normal errors (Rousseeuw and Croux, 1993).
    """
    errors = found.residuals[0]
    before, newest = errors[:-2], errors[-2:]
    if len(before) < _ENOUGH_TO_JUDGE:
        return False
    usual = 1.4826 * median(map(abs, before)) / math.sqrt(len(newest))
    return abs(sum(newest) / len(newest)) > _FAR * usual


def _forecast(
    series: Series, ahead: Sequence[float], residuals: Sequence[Sequence[float]], model: str, scores: dict[str, float]
) -> Forecast:
    points = []
    for step, value in enumerate(ahead):
        low, high = _band(value, residuals, step)
        at = series.end + timedelta(seconds=(step + 1) * series.step_s)
        points.append(ForecastPoint(at, q10=max(0.0, value + low), q50=value, q90=value + high))
    return Forecast(series.metric, series.end, series.step_s, tuple(points), model, scores)


def _band(value: float, residuals: Sequence[Sequence[float]], step: int) -> tuple[float, float]:
    """Offsets of the 10 % and 90 % quantile of the residuals at this step; none at all means half the value.

    Where too few origins reach so far ahead, the steps before it help out, and what is missing still widens the band.
    """
    known: list[float] = []
    for nearer in range(step, -1, -1):
        known.extend(residuals[nearer])
        if len(known) >= _ENOUGH:
            break
    if not known:
        return -0.5 * value, 0.5 * value
    widen = max(1.0, math.sqrt(_ENOUGH / len(known)))
    return min(0.0, quantile(known, 0.1)) * widen, max(0.0, quantile(known, 0.9)) * widen
