"""The forecasts of one controller: bands that outlive it, the long view by the minute, methods that misbehave."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from controlplane.db import session_scope
from controlplane.forecasting.forecaster import Predictor
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.live import LiveForecasts
from controlplane.forecasting.models import ForecastBandRecord, ForecastRecord
from controlplane.forecasting.series import Series
from controlplane.forecasting.service import LONG, forecast_quality
from controlplane.telemetry import service as telemetry
from tests.support.database import memory_database
from tests.support.made_up_telemetry import windows

POOL, T0 = "pool-1", datetime(2026, 11, 29, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with memory_database() as made:
        yield made


def run(engine: Engine, live: LiveForecasts, first: int, last: int, epoch: int = 1) -> None:
    seen = windows(last, T0)
    for i in range(first, last):
        end = seen[i].window_end
        minutes = [seen[j].offered_rps or 0.0 for j in range(i % 4, i + 1, 4)]
        by_minute = Series("offered_rps", end, 60.0, tuple(minutes)) if i % 4 == 3 else None
        live.forecast(POOL, epoch, seen[max(0, i - 79) : i + 1], by_minute, horizon_s=60.0)
        with session_scope(engine) as session:
            telemetry.save_observations(session, POOL, seen[i])
            live.keep(session, POOL, end)


def test_once_a_minute_a_forecast_reaches_fifteen_minutes_ahead_and_is_scored(engine: Engine) -> None:
    run(engine, LiveForecasts(engine), 80, 190)
    with session_scope(engine, read_only=True) as session:
        rows = list(session.scalars(select(ForecastRecord).where(ForecastRecord.metric == "offered_rps" + LONG)))
        found = forecast_quality(session, POOL, "offered_rps", T0, T0 + timedelta(hours=2))
    assert 24 <= len(rows) <= 28
    assert all(len(row.points) == 15 and row.step_s == 60.0 for row in rows)
    assert [horizon.horizon_s for horizon in found] == [60.0, 300.0, 900.0]


def test_what_bands_have_learned_outlives_the_controller(engine: Engine) -> None:
    first = LiveForecasts(engine)
    run(engine, first, 60, 110)
    with session_scope(engine, read_only=True) as session:
        kept = {row.metric: row.sides for row in session.scalars(select(ForecastBandRecord))}
    assert {"offered_rps", "ttft_p95_s"} <= set(kept)
    assert kept["offered_rps"][0]["seen"] > 10
    second = LiveForecasts(engine)
    second._take_over(POOL, epoch=2)
    assert second._bands[POOL, "offered_rps"].sides[0].seen == kept["offered_rps"][0]["seen"]


def test_stored_nonsense_is_passed_over(engine: Engine) -> None:
    with session_scope(engine) as session:
        session.add(ForecastBandRecord(pool_id=POOL, metric="offered_rps", at=T0, sides=[{"low": "no"}]))
    run(engine, LiveForecasts(engine), 60, 64)


def test_a_method_that_breaks_leaves_the_rest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks:
        name = "breaks"

        def fit(self, series: Sequence[float]) -> Predictor:
            raise RuntimeError("no")

    monkeypatch.setattr("controlplane.forecasting.live.FORECASTERS", (LastValue(), Breaks()))
    seen = windows(60, T0)
    found = LiveForecasts(engine).forecast(POOL, 1, seen, None, horizon_s=60.0)
    assert found["offered_rps"].model == "last_value" and "breaks" not in found["offered_rps"].scores


def test_those_who_raced_between_two_ticks_do_not_race_in_the_next(engine: Engine) -> None:
    asked: list[int] = []

    class Counted:
        name = "counted"

        def fit(self, series: Sequence[float]) -> Predictor:
            asked.append(len(series))
            return lambda known, steps: [known[-1] + 50.0] * steps

    def races(live: LiveForecasts, *, ahead: bool) -> list[int]:
        seen = windows(120, T0)
        in_ticks = []
        for i in range(60, 120):
            asked.clear()
            live.forecast(POOL, 1, seen[i - 59 : i + 1], None, horizon_s=60.0)
            in_ticks.append(len(asked))
            if ahead:
                live.race_ahead(POOL, seen[i - 59 : i + 1], None, horizon_s=60.0)
        return in_ticks

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("controlplane.forecasting.live.FORECASTERS", (LastValue(), Counted()))
        alone, beside = races(LiveForecasts(engine), ahead=False), races(LiveForecasts(engine), ahead=True)
    assert alone[0] == beside[0] > 0
    assert sum(alone[1:]) > 10
    assert sum(beside[1:]) == 0
