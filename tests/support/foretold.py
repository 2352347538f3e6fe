"""Forecasters that know what comes, or say what they like, run against a load that is given: for tests of what they earn."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.merit import Merit
from controlplane.forecasting.track_record import TrackRecord, newest_forecast
from controlplane.telemetry.observation import Observation, Quality

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S, STEPS = 15.0, 4
HORIZON_S = STEP_S * STEPS

Tells = Callable[[Sequence[float], int], Sequence[float]]
"""(the whole load, place of the newest value) -> medians of the next `STEPS` values."""


def window(place: int, rate: float | None) -> Observation:
    at = T0 + timedelta(seconds=STEP_S * (place + 1))
    return Observation(at, STEP_S, Quality.OK if rate is not None else Quality.MISSING, offered_rps=rate)


def forecast_of(medians: Sequence[float], made_at: datetime, *, band: float = 0.0, step_s: float = STEP_S) -> Forecast:
    points = (
        ForecastPoint(made_at + timedelta(seconds=step_s * (step + 1)), max(0.0, value - band), value, value + band)
        for step, value in enumerate(medians)
    )
    return Forecast("offered_rps", made_at, step_s, tuple(points), "told")


def knows(load: Sequence[float], place: int) -> Sequence[float]:
    """What will be."""
    return [load[min(place + step + 1, len(load) - 1)] for step in range(STEPS)]


def cries_wolf(load: Sequence[float], place: int) -> Sequence[float]:
    return [3.0 * load[place] + 1.0] * STEPS


def nonsense(load: Sequence[float], place: int) -> Sequence[float]:
    return [math.nan] * STEPS


def swinging(count: int, *, level: float, swing: float, period: int) -> list[float]:
    """Up and down on straight lines: a trend that goes on until it turns."""
    half = period / 2
    return [level + swing * (1 - abs(place % period - half) / half) for place in range(count)]


def follow(load: Sequence[float], tells: Tells, record: TrackRecord | None = None, first: int = 0) -> list[Merit]:
    """The merit after each window from `first` on, as a controller that leads all along would have it."""
    record = record or TrackRecord()
    found = []
    for place in range(first, len(load)):
        history = [window(past, load[past]) for past in range(max(0, place - 79), place + 1)]
        record.came(history[-1].window_end, load[place])
        newest = newest_forecast(history, HORIZON_S)
        assert newest is not None
        record.made(forecast_of(tells(load, place), newest.made_at), newest, STEP_S)
        found.append(record.merit)
    return found
