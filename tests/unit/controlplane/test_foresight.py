"""Warnings of spikes in the controller: raised, told, settled, taken over by another controller, and unmoved by bad data."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from controlplane.db import session_scope
from controlplane.decisions.policy import Policy, Slo
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.models import SpikeModelRecord, SpikeRecord, SpikeWarningRecord
from controlplane.forecasting.spikes.alarm import Verdict
from controlplane.forecasting.spikes.quality import warning_quality
from controlplane.forecasting.spikes.thresholds import Setting
from controlplane.forecasting.spikes.watch import Look
from controlplane.foresight import Foresight
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation, Quality, missing
from tests.support.database import memory_database
from tests.support.made_up_telemetry import SLO_S, windows

POOL, STEP_S = "pool-1", 15.0
T0 = datetime(2026, 11, 29, tzinfo=UTC)
POLICY = Policy(slo=Slo(ttft_p95_s=SLO_S))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with memory_database() as made:
        yield made


def run(engine: Engine, foresight: Foresight, seen: list[Observation], epoch: int = 1) -> list[Look | None]:
    """Tick by tick, as the controller does."""
    looks = []
    for window in seen:
        with session_scope(engine, read_only=True) as session:
            foresight.begin(session, window.window_end)
        look = foresight.look(POOL, epoch, window, POLICY)
        with session_scope(engine) as session:
            telemetry.save_observations(session, POOL, window)
            foresight.keep(session, POOL, look, window.window_end)
        looks.append(look)
    return looks


def known(engine: Engine, seen: list[Observation]) -> None:
    """Windows of before, without a look at each."""
    with session_scope(engine) as session:
        for window in seen:
            telemetry.save_observations(session, POOL, window)


def warnings(engine: Engine) -> list[tuple[str, datetime, str]]:
    with session_scope(engine, read_only=True) as session:
        rows = session.scalars(select(SpikeWarningRecord).order_by(SpikeWarningRecord.at))
        return [(row.setting, row.at, row.verdict) for row in rows]


class TestWithoutAModel:
    def test_surges_are_warned_of_told_and_settled(self, engine: Engine) -> None:
        run(engine, Foresight(engine, STEP_S), windows(420, T0, surge_every=120))
        told = warnings(engine)
        assert told and {setting for setting, _, _ in told} == {"watch"}  # the cold start pages nobody
        with session_scope(engine, read_only=True) as session:
            kinds = list(session.scalars(select(Event.kind).order_by(Event.id)))
            spikes = list(session.scalars(select(SpikeRecord)))
            event = session.scalars(select(Event).where(Event.kind == EventKind.FORECAST_SPIKE_PREDICTED)).first()
            assert event is not None and event.pool_id == POOL
            assert event.data["model"] == "fluid" and "x capacity" in event.data["explanation"]
            quality = warning_quality(session, T0, T0 + timedelta(days=1))[POOL]
        assert kinds.count(EventKind.FORECAST_SPIKE_PREDICTED) >= 2
        assert kinds.count(EventKind.FORECAST_SPIKE_CLEARED) >= kinds.count(EventKind.FORECAST_SPIKE_PREDICTED) - 1
        assert spikes and any(spike.watch_lead_s is not None for spike in spikes)
        watch = next(each for each in quality if each.setting is Setting.WATCH)
        assert watch.spikes == len(spikes)
        assert watch.foreseen == sum(spike.watch_lead_s is not None for spike in spikes)
        assert watch.right == sum(verdict in {"right", "late"} for _, _, verdict in told)
        interval = watch.precision_interval
        assert watch.precision is not None and interval is not None and interval[0] <= watch.precision <= interval[1]

    def test_the_probability_goes_with_the_forecasts(self, engine: Engine) -> None:
        foresight = Foresight(engine, STEP_S)
        look = run(engine, foresight, windows(100, T0))[-1]
        assert look is not None and 0.0 <= look.found.probability <= 1.0
        forecast = Forecast("offered_rps", T0, STEP_S, (), "last_value")
        assert (
            foresight.told({"offered_rps": forecast}, look)["offered_rps"].spike_probability == look.found.probability
        )
        assert foresight.told({"offered_rps": forecast}, None)["offered_rps"].spike_probability is None

    def test_nothing_is_said_before_costs_and_trend_are_known(self, engine: Engine) -> None:
        assert run(engine, Foresight(engine, STEP_S), windows(15, T0)) == [None] * 15


class TestFailover:
    def test_another_controller_goes_on_where_the_first_one_stopped(self, engine: Engine) -> None:
        """The same warnings as one controller would have raised: all that is needed stands in SQL."""
        seen = windows(330, T0, surge_every=120)
        with memory_database() as other:
            run(other, Foresight(other, STEP_S), seen)
            alone = warnings(other)
        run(engine, Foresight(engine, STEP_S), seen[:250])
        run(engine, Foresight(engine, STEP_S), seen[250:], epoch=2)
        assert [setting_at[:2] for setting_at in warnings(engine)] == [each[:2] for each in alone]

    def test_the_same_window_again_changes_nothing(self, engine: Engine) -> None:
        seen = windows(300, T0, surge_every=120)
        foresight = Foresight(engine, STEP_S)
        known(engine, seen[:100])
        run(engine, foresight, seen[100:])
        before = warnings(engine)
        run(engine, foresight, seen[-3:])
        assert warnings(engine) == before


class TestAnomalies:
    def test_latency_that_leaves_its_range_under_a_steady_load_is_told_once(self, engine: Engine) -> None:
        """What no forecast of the load can see: the load does not change."""
        steady = windows(130, T0, surge_every=10_000)
        slow = [replace(each, ttft_p95_s=4 * (each.ttft_p95_s or 0.0)) for each in steady[100:]]
        foresight = Foresight(engine, STEP_S)
        foresight.notice(POOL, 1, steady[99], steady[:99])
        for window in slow:
            foresight.notice(POOL, 1, window, [])
            with session_scope(engine) as session:
                foresight.keep(session, POOL, None, window.window_end)
        with session_scope(engine, read_only=True) as session:
            (event,) = session.scalars(select(Event).where(Event.kind == EventKind.FORECAST_ANOMALY))
            assert event.pool_id == POOL
            assert (event.data["metric"], event.data["direction"]) == ("ttft_p95_s", "up")
            assert event.at <= slow[15].window_end


class TestPoisonedInput:
    def test_a_missing_window_says_nothing(self, engine: Engine) -> None:
        seen = windows(120, T0)
        looks = run(engine, Foresight(engine, STEP_S), [*seen[:119], missing(seen[119].window_end, STEP_S)])
        assert looks[-2] is not None and looks[-1] is None

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 1e300])
    @pytest.mark.parametrize("fact", ["offered_rps", "prompt_tokens_per_s", "ttft_p95_s", "waiting", "step_mean_s"])
    def test_figures_that_cannot_be_true_break_nothing(self, engine: Engine, fact: str, bad: float) -> None:
        """Such windows are left out before (plausibility); here is what holds if one slips through."""
        seen = windows(140, T0)
        spoiled = [replace(seen[119], **{fact: bad}), *seen[120:]]  # type: ignore[arg-type]
        known(engine, seen[:115])
        for look in run(engine, Foresight(engine, STEP_S), [*seen[115:119], *spoiled[:4]]):
            assert look is None or 0.0 <= look.found.probability <= 1.0

    def test_clock_steps_duplicates_and_stale_windows_raise_no_warning(self, engine: Engine) -> None:
        calm = windows(120, T0, surge_every=10_000)
        back = replace(calm[110], window_end=calm[20].window_end)
        stale = replace(calm[119], quality=Quality.STALE, offered_rps=1e6)
        known(engine, calm[:115])
        run(engine, Foresight(engine, STEP_S), [*calm[115:119], back, calm[118], stale])
        assert warnings(engine) == []

    def test_a_model_that_cannot_be_read_leaves_the_cold_start(self, engine: Engine) -> None:
        with session_scope(engine) as session:
            session.add(SpikeModelRecord(version=1, made_at=T0, content=b"no model", thresholds={}, report={}))
        known(engine, windows(120, T0)[:119])
        look = run(engine, Foresight(engine, STEP_S), windows(120, T0)[119:])[-1]
        assert look is not None and look.found.model == "fluid"

    def test_trouble_while_writing_costs_the_warning_and_not_the_tick(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr("controlplane.foresight.standing.keep", broken)
        run(engine, Foresight(engine, STEP_S), windows(100, T0))
        with session_scope(engine, read_only=True) as session:
            assert len(telemetry.recent(session, POOL, T0 - timedelta(days=1))) == 100
        assert Verdict.OPEN.value not in {verdict for *_, verdict in warnings(engine)}
