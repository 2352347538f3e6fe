from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select

from controlplane import tick
from controlplane.db import session_scope
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.errors import Fenced
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import SettingsRevision
from controlplane.forecasting.models import ForecastRecord
from controlplane.rollouts.models import Rollout
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.models import ObservationRecord
from controlplane.telemetry.observation import NodeRef, Observation, PoolRef
from controlplane.telemetry.prometheus import PrometheusUnavailable, Sample
from controlplane.tick import DEADLINE_S, Stage, StageFailed, Ticker, TickOverran
from tests.support.arms import window
from tests.support.rollouts_in_sql import NOW, lab


class Clock:
    def now(self) -> datetime:
        return NOW + timedelta(seconds=1)


class Canned(Collector):
    """Answers with calm windows, or with what it is given to raise."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(_nobody)
        self.error = error

    def collect(
        self, pool: PoolRef, nodes: Sequence[NodeRef], at: datetime, window_s: float
    ) -> tuple[Observation, dict[str, Observation]]:
        if self.error is not None:
            raise self.error
        return window(at), {node.id: window(at) for node in nodes}


class _Nobody:
    def query(self, promql: str, at: datetime) -> list[Sample]:
        raise AssertionError("nothing is asked here")


_nobody = _Nobody()


class Site:
    """A pool of two nodes, its ticker, and the epoch that may write."""

    def __init__(self, engine: Engine, collector: Collector, steps: Sequence[float] = ()) -> None:
        self.engine = engine
        with session_scope(engine) as session:
            made = lab(session)
            self.pool_id, self.epoch = made.pool.id, made.epoch
        times = iter(steps)
        self.ticker = Ticker(
            engine, ControlPlaneSettings(), Clock(), collector, monotonic=lambda: next(times, 0.0) if steps else 0.0
        )

    def count(self, table: type[object]) -> int:
        with session_scope(self.engine, read_only=True) as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


def test_observes_saves_decides_and_records(engine: Engine) -> None:
    site = Site(engine, Canned())
    ticked = site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert (ticked.unavailable, ticked.rollout_id) == (None, None)
    assert site.count(ObservationRecord) == 3
    assert site.count(DecisionRecord) == 1


def test_the_same_window_twice_is_saved_once(engine: Engine) -> None:
    site = Site(engine, Canned())
    for _ in range(2):
        site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert site.count(ObservationRecord) == 3


def test_without_prometheus_the_decision_holds_and_says_why(engine: Engine) -> None:
    site = Site(engine, Canned(PrometheusUnavailable("http://127.0.0.1:1", "refused")))
    ticked = site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert ticked.decision.outcome is Outcome.HOLD
    assert ticked.decision.reason is Reason.NO_DATA
    assert "CONTROLPLANE_PROMETHEUS_URL" in (ticked.unavailable or "")
    with session_scope(engine, read_only=True) as session:
        assert set(session.scalars(select(ObservationRecord.quality))) == {"missing"}


def test_a_deposed_leader_leaves_no_trace(engine: Engine) -> None:
    site = Site(engine, Canned())
    with pytest.raises(Fenced):
        site.ticker.tick(site.pool_id, NOW, site.epoch - 1)
    assert [site.count(table) for table in (ObservationRecord, DecisionRecord, ForecastRecord, Rollout)] == [0, 0, 0, 0]


def test_what_fails_is_named_by_its_stage(engine: Engine) -> None:
    site = Site(engine, Canned(ZeroDivisionError("a bug")))
    with pytest.raises(StageFailed, match="observe: ZeroDivisionError: a bug") as caught:
        site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert caught.value.stage is Stage.OBSERVE


def test_a_tick_that_overruns_decides_nothing(engine: Engine) -> None:
    site = Site(engine, Canned(), steps=[0.0, DEADLINE_S + 1])
    with pytest.raises(TickOverran, match="forecast"):
        site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert site.count(DecisionRecord) == 0


def test_a_change_that_cannot_begin_leaves_its_decision_and_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and recording a person froze the pool: the decision stands, nothing is begun, and people see why."""

    def decide_and_freeze(inputs: DecisionInputs) -> Decision:
        with session_scope(engine) as session:
            pool = fleets.get_pool(session, site.pool_id)
            fleets.freeze_pool(session, pool, reason="incident 7", actor="alice", now=NOW)
        chosen = inputs.settings.replace(max_batch_size=17)
        return replace(decide(inputs), outcome=Outcome.APPLY, chosen=chosen)

    site = Site(engine, Canned())
    monkeypatch.setattr(tick, "decide", decide_and_freeze)
    ticked = site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert ticked.rollout_id is None
    assert (site.count(DecisionRecord), site.count(Rollout), site.count(SettingsRevision)) == (1, 0, 1)
    with session_scope(engine, read_only=True) as session:
        decision_id = session.scalars(select(DecisionRecord.id)).one()
        event = session.scalars(select(Event).where(Event.kind == EventKind.ROLLOUT_NOT_BEGUN)).one()
    assert event.decision_id == decision_id
    assert "incident 7" in event.message


class Contradicting(Canned):
    """Arrivals that neither finish nor stay."""

    def collect(
        self, pool: PoolRef, nodes: Sequence[NodeRef], at: datetime, window_s: float
    ) -> tuple[Observation, dict[str, Observation]]:
        seen, by_node = super().collect(pool, nodes, at, window_s)
        return replace(seen, kv_usage=7.0), by_node


def test_figures_that_cannot_be_true_are_left_out_and_told_once(engine: Engine) -> None:
    site = Site(engine, Contradicting())
    for i in range(3):
        ticked = site.ticker.tick(site.pool_id, NOW + timedelta(seconds=5 * i), site.epoch)
        assert ticked.decision.outcome is Outcome.HOLD
        assert ticked.decision.reason is Reason.NO_DATA
    with session_scope(engine, read_only=True) as session:
        told = session.scalars(select(Event.message).where(Event.kind == EventKind.TELEMETRY_IMPLAUSIBLE.value)).all()
    assert len(told) == 1
    assert "kv_usage is 7.00" in told[0]
