"""The forecasts of one controller: bands that outlive it, the long view by the minute, methods that misbehave."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from controlplane.db import session_scope
from controlplane.forecasting.conformal import AdaptiveBands
from controlplane.forecasting.conformal import stored as stored_bands
from controlplane.forecasting.forecaster import Predictor
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.live import LiveForecasts
from controlplane.forecasting.merit import READY, Merit, stored
from controlplane.forecasting.models import ForecastBandRecord, ForecastRecord
from controlplane.forecasting.series import Series
from controlplane.forecasting.service import LONG, forecast_quality
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import missing
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


def test_what_forecasts_were_worth_outlives_the_controller_to_the_last_bit(engine: Engine) -> None:
    first, second = LiveForecasts(engine), LiveForecasts(engine)
    run(engine, first, 60, 140)
    with session_scope(engine) as session:
        # Whichever tick it was saved at last, it is what was known then; here everything is.
        session.query(ForecastBandRecord).filter_by(metric="offered_rps").update({"merit": stored(first.merit(POOL))})
    assert first.merit(POOL).truths > READY
    second._take_over(POOL, epoch=2)
    assert second.merit(POOL) == first.merit(POOL)
    assert second.merit(POOL).cost > 0


def test_that_forecasts_may_act_is_kept_at_once_and_so_is_that_they_no_longer_may(engine: Engine) -> None:
    live = LiveForecasts(engine)
    run(engine, live, 60, 61)
    for turn, may_act in enumerate((True, False)):
        live._records[POOL].merit = Merit(may_act=may_act, truths=50, cost=1.0, newest_cost=2.0)
        with session_scope(engine) as session:
            live.keep(session, POOL, T0 + timedelta(seconds=turn))
        with session_scope(engine, read_only=True) as session:
            row = session.get(ForecastBandRecord, (POOL, "offered_rps"))
            assert row is not None
            assert row.merit == stored(live.merit(POOL))
            assert row.at == T0 + timedelta(seconds=turn)
            others = session.scalars(select(ForecastBandRecord.merit).where(ForecastBandRecord.metric != "offered_rps"))
            assert set(others) == {None}


def test_the_newest_load_is_a_forecast_of_its_own_and_none_that_anybody_is_shown(engine: Engine) -> None:
    live = LiveForecasts(engine)
    seen = windows(80, T0)
    found = live.forecast(POOL, 1, seen, None, horizon_s=60.0)
    newest = live.newest(POOL)
    assert newest is not None
    assert {point.q50 for point in newest.points} == {seen[-1].offered_rps}
    assert len(newest.points) == len(found["offered_rps"].points)
    assert all(forecast.metric in ("offered_rps", "ttft_p95_s", "itl_p95_s") for forecast in found.values())
    live.forecast(POOL, 1, [*seen, *(missing(seen[-1].window_end + timedelta(seconds=15 * i), 15.0) for i in range(1, 6))],
                  None, horizon_s=60.0)  # fmt: skip
    assert live.newest(POOL) is None


def test_a_pool_that_is_gone_is_forgotten(engine: Engine) -> None:
    live = LiveForecasts(engine)
    run(engine, live, 60, 140)
    live.forget_all_but(set())
    assert live.merit(POOL) == Merit()
    assert live.newest(POOL) is None


def test_stored_nonsense_is_passed_over(engine: Engine) -> None:
    with session_scope(engine) as session:
        session.add(ForecastBandRecord(pool_id=POOL, metric="offered_rps", at=T0, sides=[{"low": "no"}]))
    run(engine, LiveForecasts(engine), 60, 64)


def test_a_merit_that_cannot_be_read_is_made_anew(engine: Engine) -> None:
    sides = stored_bands(AdaptiveBands())
    with session_scope(engine) as session:
        session.add(ForecastBandRecord(pool_id=POOL, metric="offered_rps", at=T0, sides=sides, merit={"cost": "dear"}))
    live = LiveForecasts(engine)
    live._take_over(POOL, 1)
    assert live.merit(POOL) == Merit()


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
