"""The exploring part of a tick over a real database: begun, watched, ended, fenced and taken over."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update

from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.exploration import Asked, Chosen
from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.explored import TryVerdict
from controlplane.decisions.lineage import read_lineage
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Guardrails, Policy, RolloutPolicy
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.errors import Fenced
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.exploring import Explorer
from controlplane.fleets import service as fleets
from controlplane.fleets.models import SettingsRevision
from controlplane.processes.models import ControllerLease
from controlplane.processes.shards import Terms
from controlplane.rollouts import experiments, explorations
from controlplane.rollouts.models import Exploration
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef
from controlplane.telemetry.prometheus import Sample
from controlplane.tick import Ticker
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepProfile, StepSample
from tests.support.arms import window
from tests.support.rollouts_in_sql import NOW, Lab, lab

TICK_S = 15.0
LEASE_S = 300.0


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class _Nobody:
    def query(self, promql: str, at: datetime) -> list[Sample]:
        raise AssertionError("nothing is asked here")


class World(Collector):
    """Calm windows of a pool whose nodes do what is wished for; `slower` multiplies the latencies of a tried node."""

    def __init__(self) -> None:
        super().__init__(_Nobody())
        self.slower, self.tried = 1.0, set[str]()
        self.waiting = 0.0

    def begin(self, at: datetime, window_s: float) -> None: ...

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        return replace(
            self._window(at), offered_rps=2.7, ttft_count=40.0, ttft_slow=0.0, itl_count=1600.0, itl_slow=0.0,
            waiting=self.waiting,
        )  # fmt: skip

    def collect_nodes(self, nodes: Iterable[NodeRef], at: datetime, window_s: float) -> dict[str, Observation]:
        return {node.id: self._window(at, self.slower if node.id in self.tried else 1.0) for node in nodes}

    def _window(self, at: datetime, slower: float = 1.0) -> Observation:
        wave = 1 + 0.05 * (at.timestamp() // TICK_S % 5)  # nobody's windows are all alike
        plain = window(at, ttft_s=0.2 * slower * wave, itl_s=0.04 * slower * wave, window_s=TICK_S)
        return replace(
            plain, prompt_tokens_mean=40.0, generation_tokens_mean=40.0, step_mean_s=0.035 * slower, decode_rows_mean=1.5,
            prefill_tokens_mean=2.0, generation_tokens_per_s=54.0, waiting=0.0, running=2.0,
        )  # fmt: skip


POLICY = Policy.model_validate(
    {
        "exploration": {"mode": "model", "lease_s": LEASE_S},
        "guardrails": {**Guardrails(cooldown_relaxing_s=120, burn_window_s=300).model_dump()},
        "rollout": {**RolloutPolicy(settle_s=15).model_dump()},
    }
)
PROFILE = StepProfile(
    cells=tuple(
        StepSample(
            precision=Precision.BF16,
            decode_rows=rows,
            prefill_tokens=tokens,
            step_s=0.03 + 0.003 * rows + 0.0005 * tokens,
            samples=5,
        )
        for rows, tokens in ((1, 0), (4, 0), (16, 0), (32, 0), (1, 64), (4, 128))
    )
)


class Site:
    """A pool of two nodes with step times and a policy that explores; time goes on by ticks."""

    def __init__(self, engine: Engine, policy: Policy = POLICY) -> None:
        self.engine, self.clock, self.world = engine, Clock(), World()
        with session_scope(engine) as session:
            made = lab(session)
            self.pool_id, self.epoch = made.pool.id, made.epoch
            for node in made.nodes():
                node.step_profile = PROFILE.model_dump(mode="json")
            decisions.put_policy(session, self.pool_id, policy, based_on=0, actor="alice", now=NOW)
        self.ticker = self.take_part()

    def take_part(self) -> Ticker:
        settings = ControlPlaneSettings(tick_s=TICK_S, window_s=TICK_S)
        return Ticker(self.engine, settings, self.clock, self.world, monotonic=lambda: 0.0)

    def ticks(self, number: int, ticker: Ticker | None = None, *, obey: bool = True) -> None:
        """Nodes obey, and the controller ticks, so many times."""
        ticker = ticker or self.ticker
        for _ in range(number):
            self.clock.at += timedelta(seconds=TICK_S)
            with session_scope(self.engine) as session:
                there = self.lab(session)
                self.world.tried = {node.id for node in there.nodes() if node.lease_s is not None}
                if obey:
                    there.obey(self.clock.at)
            self.last = ticker.tick(self.pool_id, self.clock.at, self.epoch).decision
            ticker.tell_nodes(self.clock.at, Terms.everywhere(self.epoch))

    def lab(self, session: Any) -> Lab:
        return Lab(session, fleets.get_pool(session, self.pool_id), self.epoch)

    def begun(self) -> Exploration:
        """After the first minutes of calm something is tried."""
        for _ in range(60):
            self.ticks(1)
            rows = self.rows()
            if rows:
                return rows[-1]
        raise AssertionError("nothing was tried within a quarter of an hour")

    def rows(self) -> list[Exploration]:
        with session_scope(self.engine, read_only=True) as session:
            found = list(session.scalars(select(Exploration).order_by(Exploration.at)))
            session.expunge_all()
            return found

    def leased(self) -> int:
        with session_scope(self.engine, read_only=True) as session:
            return sum(node.lease_s is not None for node in self.lab(session).nodes())

    def events(self, kind: EventKind) -> list[Event]:
        with session_scope(self.engine, read_only=True) as session:
            found = list(session.scalars(select(Event).where(Event.kind == kind.value).order_by(Event.id)))
            session.expunge_all()
            return found


@pytest.fixture
def site(engine: Engine) -> Site:
    return Site(engine)


class TestBegins:
    def test_off_is_the_default(self, engine: Engine) -> None:
        site = Site(engine, Policy())
        site.ticks(60)
        assert site.rows() == []

    def test_on_one_node_under_a_lease_with_all_that_it_rests_on(self, site: Site) -> None:
        row = site.begun()
        assert (row.arm, row.lease_s, row.epoch, row.ended_at) == ("model", LEASE_S, site.epoch, None)
        assert site.leased() == 1
        assert explorations.replay(row)[0]
        assert row.choice["safe"] >= 1 and row.choice["considered"]
        (event,) = site.events(EventKind.NODE_EXPERIMENT_STARTED)
        assert (event.actor, event.node_id) == ("controller:exploration", row.node_id)
        assert "greatest gain" in event.message

    def test_the_replay_is_told_from_another_choice(self, site: Site) -> None:
        row = site.begun()
        row.asked["inputs"]["policy"]["exploration"]["mode"] = ExplorationMode.RANDOM.value
        identical, again = explorations.replay(row)
        assert isinstance(again, Chosen)
        assert not identical

    def test_not_before_the_budget_is_known_and_the_calm_is_long_enough(self, site: Site) -> None:
        site.ticks(7)
        assert site.last.reason is Reason.WITHIN_SLO
        assert site.rows() == []

    def test_it_is_no_change_of_the_pool_and_no_wish_of_anybody(self, site: Site) -> None:
        site.begun()
        site.ticks(1)
        with session_scope(site.engine, read_only=True) as session:
            pool = fleets.get_pool(session, site.pool_id)
            lineage = read_lineage(session, pool)
            revisions = session.scalar(select(func.count()).select_from(SettingsRevision))
            applied = session.scalars(select(DecisionRecord).where(DecisionRecord.outcome == Outcome.APPLY.value)).all()
        assert (revisions, applied) == (2, [])
        assert lineage.settings == lineage.home
        assert [settings for _, settings in lineage.newest_first] == [lineage.settings]

    def test_who_wishes_for_the_same_on_the_pool_gets_a_revision_of_their_own(self, site: Site) -> None:
        row = site.begun()
        settings = EngineSettings.model_validate(row.settings)
        with session_scope(site.engine) as session:
            pool = fleets.get_pool(session, site.pool_id)
            now = site.clock.at
            mine = fleets.create_revision(session, pool, settings, created_by="alice", reason="good", now=now)
            assert mine.id != row.revision_id
            assert fleets.create_revision(session, pool, settings, created_by="alice", reason="again", now=now) is mine
            assert read_lineage(session, pool).home != settings  # until it is in force

    def test_not_beside_what_a_person_tries(self, site: Site) -> None:
        with session_scope(site.engine) as session:
            node = site.lab(session).nodes()[0]
            wanted = EngineSettings(max_batch_size=11)
            experiments.begin_experiment(
                session, node.id, wanted, lease_s=3600, reason="curious", created_by="alice", epoch=site.epoch, now=NOW,
                heartbeat_timeout_s=15,
            )  # fmt: skip
        site.ticks(60)
        assert site.rows() == []


class TestEnds:
    def test_with_its_lease_and_says_what_it_showed(self, site: Site) -> None:
        begun = site.begun()
        site.world.slower = 1.3
        site.ticks(int(LEASE_S / TICK_S) + 2)
        (row,) = site.rows()
        assert row.ended_at == begun.at + timedelta(seconds=LEASE_S)
        assert (row.ended_why, row.active_pool_id) == ("its lease is over", None)
        assert row.verdict == TryVerdict.WORSE.value
        assert site.leased() == 0
        assert row.outcome is not None
        itl = next(each for each in row.outcome["shown"] if each["metric"] == "itl_p95_s")
        assert itl["ratio"] == pytest.approx(1.3, rel=0.02)
        assert itl["windows"] >= 15
        (event,) = site.events(EventKind.NODE_EXPERIMENT_MEASURED)
        assert event.data["verdict"] == "worse"
        assert "its lease is over" in event.message

    def test_one_an_hour_and_not_the_same_again(self, site: Site) -> None:
        first = site.begun()
        site.ticks(int((3600 + LEASE_S) / TICK_S))
        rows = site.rows()
        assert len(rows) == 2
        assert rows[1].at - first.at >= timedelta(hours=1)
        assert rows[1].settings != rows[0].settings
        assert [each["verdict"] for each in rows[1].asked["tried"]] == [rows[0].verdict]
        assert explorations.replay(rows[1])[0]

    def test_early_where_the_node_breaks_an_objective(self, site: Site) -> None:
        begun = site.begun()
        site.world.slower = 10.0
        site.ticks(5)
        (row,) = site.rows()
        assert row.ended_at is not None
        assert row.ended_at - begun.at <= timedelta(seconds=5 * TICK_S)
        assert row.verdict == TryVerdict.WORSE.value
        assert "over its objective" in (row.ended_why or "")
        assert site.leased() == 0

    def test_early_where_the_pool_queues(self, site: Site) -> None:
        site.begun()
        site.world.waiting = 30.0
        site.ticks(3)
        (row,) = site.rows()
        assert row.ended_at is not None
        assert row.verdict == TryVerdict.UNCLEAR.value
        assert site.leased() == 0

    def test_early_when_the_policy_no_longer_explores(self, site: Site) -> None:
        site.begun()
        with session_scope(site.engine) as session:
            decisions.put_policy(session, site.pool_id, Policy(), based_on=1, actor="alice", now=site.clock.at)
        site.ticks(1)
        assert site.rows()[0].ended_why == "the policy explores nothing any more"
        assert site.leased() == 0

    def test_when_a_rollout_is_asked_for(self, site: Site) -> None:
        site.begun()
        with session_scope(site.engine) as session:
            site.lab(session).begin(16, now=site.clock.at)
        site.ticks(1)
        assert "other settings were wished for" in (site.rows()[0].ended_why or "")

    def test_when_the_node_refuses(self, site: Site) -> None:
        row = site.begun()
        with session_scope(site.engine) as session:
            there = site.lab(session)
            node = next(each for each in there.nodes() if each.id == row.node_id)
            there.beat(node, site.clock.at, rejected_generation=row.generation, rejected_reason="no memory for it")
        site.ticks(2)
        (ended,) = site.rows()
        assert (ended.verdict, "no memory for it" in (ended.ended_why or "")) == ("worse", True)

    def test_without_figures_where_it_never_came_into_force(self, site: Site) -> None:
        site.begun()
        with session_scope(site.engine) as session:
            for node in site.lab(session).nodes():
                node.last_heartbeat_at = site.clock.at + timedelta(hours=1)
        site.ticks(int(LEASE_S / TICK_S) + 2, obey=False)
        (ended,) = site.rows()
        assert (ended.applied_at, ended.verdict) == (None, TryVerdict.UNCLEAR.value)

    @pytest.mark.parametrize("column", ["asked", "settings"])
    @pytest.mark.parametrize(("slower", "verdict"), [(1.0, TryVerdict.UNCLEAR), (10.0, TryVerdict.WORSE)])
    def test_without_figures_where_another_version_wrote_what_it_rests_on(
        self, site: Site, slower: float, verdict: TryVerdict, column: str
    ) -> None:
        """The pool must be free for the next one: a row that cannot be read again would hold it for ever."""
        begun = site.begun()
        site.world.slower = slower
        with session_scope(site.engine) as session:
            row = session.get_one(Exploration, begun.id)
            if column == "asked":
                row.asked = {"inputs": {**row.asked["inputs"], "settings": {"batch": "of another time"}}, "tried": []}
            else:
                row.settings = {**row.settings, "a_knob": "of another time"}
        site.ticks(int(LEASE_S / TICK_S) + 2)
        (ended,) = site.rows()
        assert (ended.active_pool_id, ended.verdict) == (None, verdict.value)
        assert ended.outcome is not None
        assert ended.outcome["harmful"] is (verdict is TryVerdict.WORSE)
        assert "cannot read" in ended.outcome["explanation"]
        (event,) = site.events(EventKind.NODE_EXPERIMENT_MEASURED)
        assert event.data["exploration_id"] == ended.id
        with session_scope(site.engine, read_only=True) as session:
            (tried,) = explorations.tried_before(session, site.pool_id, site.clock.at)
        assert tried.harmful is (verdict is TryVerdict.WORSE)


class TestLeadership:
    def test_a_deposed_leader_neither_begins_nor_ends_anything(self, site: Site) -> None:
        row = site.begun()
        explorer = Explorer(site.engine, 15.0)
        with session_scope(site.engine) as session:
            session.execute(update(ControllerLease).values(epoch=site.epoch + 1))
        asked = Asked.from_json(row.asked)
        over = replace(asked.inputs, now=row.at + timedelta(hours=1))
        with pytest.raises(Fenced):
            explorer.turn(site.pool_id, site.epoch, over, site.last)
        assert site.rows()[0].ended_at is None
        with session_scope(site.engine) as session:
            session.execute(
                update(Exploration).values(
                    active_pool_id=None,
                    verdict="unclear",
                    at=row.at - timedelta(days=2),
                    ended_at=row.at - timedelta(days=2),
                )
            )
            for node in site.lab(session).nodes():
                node.lease_s = None
        with pytest.raises(Fenced):
            Explorer(site.engine, 15.0).turn(site.pool_id, site.epoch, asked.inputs, site.last)
        assert len(site.rows()) == 1

    def test_who_takes_over_goes_on_with_it(self, site: Site) -> None:
        begun = site.begun()
        with session_scope(site.engine) as session:
            session.execute(update(ControllerLease).values(epoch=site.epoch + 2))
        site.epoch += 2
        site.ticks(int(LEASE_S / TICK_S) + 2, site.take_part())
        (row,) = site.rows()
        assert (row.id, row.ended_why) == (begun.id, "its lease is over")
        assert row.verdict == TryVerdict.SAME.value

    def test_trouble_costs_the_try_and_not_the_tick(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr("controlplane.exploring.choose", broken)
        site.ticks(40)
        assert site.last.reason is Reason.WITHIN_SLO
        assert site.rows() == []

    def test_pools_that_are_gone_are_forgotten(self, site: Site) -> None:
        site.begun()
        site.ticker.forget_all_but([])
        assert site.ticker._explorer._known == {}
