from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update

from controlplane import tick
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Policy, RolloutPolicy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.errors import Fenced
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import SettingsRevision
from controlplane.forecasting.conformal import AdaptiveBands
from controlplane.forecasting.models import ForecastRecord
from controlplane.processes.models import ControllerLease
from controlplane.processes.shards import Terms
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.models import Rollout
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.models import ObservationRecord
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef
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

    def begin(self, at: datetime, window_s: float) -> None: ...

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        if self.error is not None:
            raise self.error
        return window(at)

    def collect_nodes(self, nodes: Iterable[NodeRef], at: datetime, window_s: float) -> dict[str, Observation]:
        if self.error is not None:
            raise self.error
        return {node.id: window(at) for node in nodes}


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
    assert site.count(ObservationRecord) == 1
    site.ticker.tell_nodes(NOW, Terms.everywhere(site.epoch))
    assert site.count(ObservationRecord) == 3
    assert site.count(DecisionRecord) == 1


def test_the_same_window_twice_is_saved_once(engine: Engine) -> None:
    site = Site(engine, Canned())
    for _ in range(2):
        site.ticker.tick(site.pool_id, NOW, site.epoch)
        site.ticker.tell_nodes(NOW, Terms.everywhere(site.epoch))
    assert site.count(ObservationRecord) == 3


def test_without_prometheus_the_decision_holds_and_says_why(engine: Engine) -> None:
    site = Site(engine, Canned(PrometheusUnavailable("http://127.0.0.1:1", "refused")))
    ticked = site.ticker.tick(site.pool_id, NOW, site.epoch)
    assert ticked.decision.outcome is Outcome.HOLD
    assert ticked.decision.reason is Reason.NO_DATA
    assert "CONTROLPLANE_PROMETHEUS_URL" in (ticked.unavailable or "")
    site.ticker.tell_nodes(NOW, Terms.everywhere(site.epoch))
    assert site.count(ObservationRecord) == 3
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


def test_a_window_that_cannot_be_saved_either_leaves_the_stage_that_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away amid the tick: the round goes on with the next pool."""
    site = Site(engine, Canned())

    def gone(*_: object, **__: object) -> None:
        raise OSError("the database is gone")

    monkeypatch.setattr(telemetry, "save_observations", gone)
    with pytest.raises(StageFailed, match="record: OSError: the database is gone"):
        site.ticker.tick(site.pool_id, NOW, site.epoch)


def test_pools_that_others_lead_are_not_read(engine: Engine) -> None:
    site = Site(engine, Canned())
    site.ticker.begin([site.pool_id], NOW, Terms({}))
    site.ticker.tick(site.pool_id, NOW, site.epoch)  # it was given this one in between
    site.ticker.tell_nodes(NOW, Terms({}))  # and has handed it on
    assert site.count(ObservationRecord) == 1


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


@pytest.mark.parametrize(
    ("trigger", "approvals", "is_known", "mode"),
    [
        (Trigger.PROTECTIVE, 0, True, "direct"),
        (Trigger.PROTECTIVE, 0, False, "canary"),
        (Trigger.RELAXING, 0, True, "canary"),  # nothing presses
        (Trigger.PROTECTIVE, 1, True, "canary"),  # people are asked, and have time for one
    ],
)
def test_what_protects_and_is_known_needs_no_canary(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, trigger: Trigger, approvals: int, is_known: bool, mode: str
) -> None:
    def decided(inputs: DecisionInputs) -> Decision:
        chosen = inputs.settings.replace(max_batch_size=17)
        return replace(decide(inputs), outcome=Outcome.APPLY, chosen=chosen, trigger=trigger)

    site = Site(engine, Canned())
    with session_scope(engine) as session:
        policy = Policy(rollout=RolloutPolicy(approvals=approvals))
        _, version = decisions.current_policy(session, site.pool_id)
        decisions.put_policy(session, site.pool_id, policy, based_on=version, actor="alice", now=NOW)
    monkeypatch.setattr(tick, "decide", decided)
    monkeypatch.setattr(rollouts, "is_known", lambda *_: is_known)
    begun = site.ticker.tick(site.pool_id, NOW, site.epoch).rollout_id
    with session_scope(engine, read_only=True) as session:
        assert session.get_one(Rollout, begun).plan["mode"] == mode


class Contradicting(Canned):
    """Arrivals that neither finish nor stay."""

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        return replace(super().collect_pool(pool, nodes, at, window_s), kv_usage=7.0)


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


class TestManyPools:
    def test_read_at_once_they_tick_as_each_would_alone(self, engine: Engine) -> None:
        site = Site(engine, Canned())
        site.ticker.begin([site.pool_id], NOW, Terms.everywhere(site.epoch))
        together = site.ticker.tick(site.pool_id, NOW, site.epoch).decision
        alone = Ticker(engine, ControlPlaneSettings(), Clock(), Canned(), monotonic=lambda: 0.0)
        assert alone.tick(site.pool_id, NOW, site.epoch).decision == together

    def test_one_that_cannot_be_read_leaves_the_others_alone(self, engine: Engine) -> None:
        site = Site(engine, Canned())
        site.ticker.begin(["nobody", site.pool_id], NOW, Terms.everywhere(site.epoch))
        with pytest.raises(StageFailed, match="there is no pool with id 'nobody'"):
            site.ticker.tick("nobody", NOW, site.epoch)
        assert site.ticker.tick(site.pool_id, NOW, site.epoch).unavailable is None
        assert site.count(DecisionRecord) == 1

    def test_what_failed_after_it_was_seen_is_still_saved(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(inputs: DecisionInputs) -> Decision:
            raise ZeroDivisionError("a bug")

        site = Site(engine, Canned())
        monkeypatch.setattr(tick, "decide", broken)
        with pytest.raises(StageFailed, match="decide: ZeroDivisionError"):
            site.ticker.tick(site.pool_id, NOW, site.epoch)
        assert (site.count(ObservationRecord), site.count(DecisionRecord)) == (1, 0)


class TestPast:
    """Windows that a leader keeps in memory are those that it would read."""

    def test_they_are_those_in_sql(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        histories: list[tuple[Observation, ...]] = []

        def watched(inputs: DecisionInputs) -> Decision:
            histories.append(inputs.history)
            return decide(inputs)

        monkeypatch.setattr(tick, "decide", watched)
        site = Site(engine, Canned())
        fresh = Ticker(engine, ControlPlaneSettings(), Clock(), Canned(), monotonic=lambda: 0.0)
        for place in range(4):
            at = NOW + timedelta(seconds=5 * place)
            site.ticker.tick(site.pool_id, at, site.epoch)
        fresh.tick(site.pool_id, NOW + timedelta(seconds=15), site.epoch)
        assert len(histories[3]) == 4
        assert histories[4] == histories[3]

    def test_in_another_epoch_they_are_read_again(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[DecisionInputs] = []

        def watched(inputs: DecisionInputs) -> Decision:
            seen.append(inputs)
            return decide(inputs)

        monkeypatch.setattr(tick, "decide", watched)
        site = Site(engine, Canned())
        site.ticker.tick(site.pool_id, NOW, site.epoch)
        with session_scope(engine) as session:
            # Somebody else led meanwhile, and saved a window.
            telemetry.save_observations(session, site.pool_id, window(NOW + timedelta(seconds=5)))
            session.execute(update(ControllerLease).values(epoch=site.epoch + 2))
        site.ticker.tick(site.pool_id, NOW + timedelta(seconds=10), site.epoch + 2)
        assert [each.window_end for each in seen[1].history] == [NOW + timedelta(seconds=s) for s in (0, 5, 10)]


def test_the_coverage_of_bands_is_told_once_enough_truths_have_come(engine: Engine) -> None:
    site = Site(engine, Canned())
    assert site.ticker.coverage() == {}
    bands = site.ticker._forecasts._bands.setdefault((site.pool_id, "offered_rps"), AdaptiveBands())
    for _ in range(100):
        bands.sides[0].feed(below=False, above=False)
    assert set(site.ticker.coverage()[site.pool_id]) == {"60"}


class TestMerit:
    """Canned windows are all alike, so the forecast and the newest load agree unless a test says otherwise."""

    def _tick(self, site: Site, count: int) -> Decision:
        for place in range(count):
            decision = site.ticker.tick(site.pool_id, NOW + timedelta(seconds=5 * place), site.epoch).decision
        return decision

    def test_a_decision_is_recorded_with_the_newest_load_and_what_forecasts_were_worth(self, engine: Engine) -> None:
        site = Site(engine, Canned())
        self._tick(site, 20)
        with session_scope(engine, read_only=True) as session:
            record = session.scalars(select(DecisionRecord).order_by(DecisionRecord.at.desc())).first()
            assert record is not None
            inputs = DecisionInputs.from_json(record.inputs)
        assert inputs.newest is not None
        assert inputs.newest.points[0].q50 == window(NOW).offered_rps
        assert inputs.merit is not None
        assert inputs.merit.truths > 0

    def test_a_threat_that_only_the_forecast_sees_is_remembered_to_be_judged(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = {"feared_rps": 9.0, "horizon_s": 60.0}

        def watched(inputs: DecisionInputs) -> Decision:
            return replace(decide(inputs), forecast={"alone": alone})

        monkeypatch.setattr(tick, "decide", watched)
        site = Site(engine, Canned())
        self._tick(site, 2)
        monkeypatch.setattr(tick, "decide", decide)
        assert site.ticker._forecasts.merit(site.pool_id).threats_seen == 0
        for place in range(2, 24):
            site.ticker.tick(site.pool_id, NOW + timedelta(seconds=5 * place), site.epoch)
        merit = site.ticker._forecasts.merit(site.pool_id)
        assert (merit.threats_seen, merit.right) == (1, 0.0)


class Late(Canned):
    """Half of twenty requests get their first token too late."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Objectives | None] = []

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        self.asked.append(objectives)
        return replace(window(at, window_s=60.0), ttft_count=20.0, ttft_slow=10.0)


class TestErrorBudget:
    def _burn(self, site: Site) -> dict[str, Any]:
        with session_scope(site.engine, read_only=True) as session:
            newest = session.scalars(select(DecisionRecord).order_by(DecisionRecord.last_at.desc()).limit(1)).one()
            assert newest.burn is not None
            return newest.burn

    def _tick(self, ticker: Ticker, site: Site, minutes: range) -> None:
        for minute in minutes:
            ticker.tick(site.pool_id, NOW + timedelta(minutes=minute), site.epoch)

    def test_is_counted_from_tick_to_tick_against_the_policys_objectives(self, engine: Engine) -> None:
        site = Site(engine, late := Late())
        self._tick(site.ticker, site, range(3))
        assert late.asked[0] == Objectives(1.5, 0.3)
        assert (self._burn(site)["rate"], self._burn(site)["known_ratio"]) == (None, 0.05)

    def test_who_takes_over_knows_the_hour_before(self, engine: Engine) -> None:
        """Windows of which nobody has told this process, and a ticker that has just begun."""
        site = Site(engine, Late())
        seen = Late()
        with session_scope(engine) as session:
            for minute in range(-50, 0):
                at = NOW + timedelta(minutes=minute)
                telemetry.save_observations(session, site.pool_id, seen.collect_pool(PoolRef("", "", ""), [], at, 60.0))
        self._tick(site.ticker, site, range(1))
        assert self._burn(site)["known_ratio"] == 0.85
        assert self._burn(site)["rate"] == pytest.approx(10.0)
        with session_scope(engine, read_only=True) as session:
            told = session.scalars(select(Event.kind).where(Event.kind.like("slo.%"))).all()
        assert told == [EventKind.SLO_BURNING.value]

    def test_reads_the_hour_once(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        site = Site(engine, Late())
        self._tick(site.ticker, site, range(2))

        def no_more(*_: object, **__: object) -> list[Observation]:
            raise AssertionError("read again")

        monkeypatch.setattr(telemetry, "recent", no_more)
        self._tick(site.ticker, site, range(2, 4))
        assert site.count(DecisionRecord) > 0

    def test_a_tick_that_failed_reads_it_again(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        site = Site(engine, Late())
        self._tick(site.ticker, site, range(2))
        with monkeypatch.context() as patched:
            patched.setattr(tick, "decide", lambda _: 1 / 0)
            with pytest.raises(StageFailed):
                self._tick(site.ticker, site, range(2, 3))
        self._tick(site.ticker, site, range(3, 4))
        assert self._burn(site)["known_ratio"] == round(4 / 60, 4)
