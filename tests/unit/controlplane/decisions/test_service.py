"""Decisions and policies in SQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.decisions import service
from controlplane.decisions.around import Around, past_changes
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.gather import live_nodes, make_inputs, read_facts
from controlplane.decisions.lineage import Lineages, read_lineage
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policies import current_policies
from controlplane.decisions.policy import Guardrails, Policy, Slo
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.errors import NotFound, Stale
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.forecasting.service import latest_forecasts
from controlplane.telemetry.observation import missing
from inference_node.contract.settings import EngineSettings
from tests.support.database import memory_database
from tests.support.decision_inputs import decision_inputs
from tests.support.registrations import heartbeat_of, registration

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_database() as engine, session_scope(engine) as opened:
        yield opened


@pytest.fixture
def pool(session: Session) -> Pool:
    """A pool of one ready node with max_batch_size 4."""
    said = registration(settings=EngineSettings(max_batch_size=4))
    node = fleets.register_node(session, said, now=NOW).node
    fleets.heartbeat(session, node, heartbeat_of(node), now=NOW)
    return node.pool


def record(session: Session, pool: Pool, given: DecisionInputs) -> DecisionRecord:
    row_id = service.record_decision(session, decide(given), pool_id=pool.id, inputs=given, epoch=1)
    return session.get_one(DecisionRecord, row_id, populate_existing=True)


def kinds(session: Session) -> list[str]:
    return [
        event.kind for event in events.list_events(session, limit=50) if not event.kind.startswith(("node", "pool"))
    ]


class TestRecordDecision:
    def test_equal_holds_are_one_row_that_shows_the_newest(self, session: Session, pool: Pool) -> None:
        first = record(session, pool, decision_inputs(NOW))
        second = record(session, pool, decision_inputs(NOW + timedelta(seconds=5), load=0.4))
        assert second.id == first.id
        assert (second.repeats, second.at, second.last_at) == (2, NOW, NOW + timedelta(seconds=5))
        assert "0.4 req/s" in second.explanation
        assert service.replay(second)[0]
        assert kinds(session) == [EventKind.DECISION_MADE]

    def test_another_reason_is_another_row_and_event(self, session: Session, pool: Pool) -> None:
        record(session, pool, decision_inputs(NOW))
        later = NOW + timedelta(seconds=5)
        blind = replace(decision_inputs(later), observation=missing(later, 5.0))
        assert record(session, pool, blind).reason == Reason.NO_DATA
        assert kinds(session) == [EventKind.DECISION_MADE] * 2

    def test_two_applies_are_two_rows(self, session: Session, pool: Pool) -> None:
        for seconds in (0, 5):
            assert (
                record(session, pool, decision_inputs(NOW + timedelta(seconds=seconds), load=4)).outcome
                == Outcome.APPLY
            )
        assert session.scalar(select(func.count()).select_from(DecisionRecord)) == 2

    def test_a_breach_is_told_once_when_it_comes_and_once_when_it_goes(self, session: Session, pool: Pool) -> None:
        in_sight = []
        for index, load in enumerate((0.3, 4.0, 4.0, 0.3, 0.3)):
            record(session, pool, decision_inputs(NOW + timedelta(seconds=5 * index), load=load))
            in_sight.append(service.pools_with_breach_in_sight(session) == {pool.id})
        assert in_sight == [False, True, True, False, False]
        told = [kind for kind in kinds(session) if kind.startswith("forecast")]
        assert told == [EventKind.FORECAST_BREACH_CLEARED, EventKind.FORECAST_BREACH_PREDICTED]  # newest first

    def test_keeps_the_forecasts_with_the_projection_of_latency(self, session: Session, pool: Pool) -> None:
        record(session, pool, decision_inputs(NOW))
        found = latest_forecasts(session, pool.id)
        assert found["offered_rps"].model == "last_value"
        assert found["ttft_p95_s"].model == "fluid"
        assert set(found["ttft_p95_s"].points[0]) == {"at", "q10", "q50", "q90"}


class TestErrorBudget:
    """A thousand requests in the last hour, so many of them late; 50 may be."""

    def _told(self, session: Session) -> list[str]:
        return [kind for kind in kinds(session) if kind.startswith("slo")]

    def _see(self, session: Session, pool: Pool, second: int, late: float, known_s: float = 3600.0) -> DecisionRecord:
        served = Tally(known_s=known_s, first_tokens=1000.0, late=late)
        return record(session, pool, replace(decision_inputs(NOW + timedelta(seconds=second)), served=served))

    def test_a_burn_is_told_once_when_it_comes_and_once_when_it_is_well_over(
        self, session: Session, pool: Pool
    ) -> None:
        burning = []
        for second, late in enumerate((90, 101, 300, 99, 101, 51, 120, 50, 20, 90)):
            self._see(session, pool, second, late)
            burning.append(service.pools_burning(session) == {pool.id})
        assert burning == [False, True, True, True, True, True, True, False, False, False]
        assert self._told(session) == [EventKind.SLO_RECOVERED, EventKind.SLO_BURNING]  # newest first

    def test_the_event_says_what_burns(self, session: Session, pool: Pool) -> None:
        self._see(session, pool, 0, 170)
        [event] = [event for event in events.list_events(session, limit=9) if event.kind == EventKind.SLO_BURNING]
        assert event.severity == "warning"
        assert "burns 3.4 times too fast" in event.message
        assert event.data["worst"] == "first_tokens"
        assert (event.data["burn_rate"], event.data["limit"]) == (3.4, 2.0)

    def test_what_is_not_known_begins_and_ends_nothing(self, session: Session, pool: Pool) -> None:
        self._see(session, pool, 0, 300, known_s=600.0)
        assert self._told(session) == []
        self._see(session, pool, 1, 300)
        self._see(session, pool, 2, 0, known_s=600.0)
        assert self._told(session) == [EventKind.SLO_BURNING]

    def test_a_limit_that_is_taken_away_ends_it(self, session: Session, pool: Pool) -> None:
        self._see(session, pool, 0, 170)
        unlimited = Policy(guardrails=Guardrails(max_burn_rate=None))
        served = Tally(known_s=3600.0, first_tokens=1000.0, late=170)
        record(session, pool, replace(decision_inputs(NOW + timedelta(seconds=5)), policy=unlimited, served=served))
        assert self._told(session) == [EventKind.SLO_RECOVERED, EventKind.SLO_BURNING]
        [event] = [event for event in events.list_events(session, limit=9) if event.kind == EventKind.SLO_RECOVERED]
        assert event.message.startswith("The policy no longer limits")

    def test_who_takes_over_does_not_tell_again(self, session: Session, pool: Pool) -> None:
        inputs = replace(decision_inputs(NOW), served=Tally(known_s=3600.0, first_tokens=10.0, late=9.0))
        for epoch in (1, 2):
            service.record_decision(
                session, decide(inputs), pool_id=pool.id, inputs=inputs, epoch=epoch, memory=service.LastWords()
            )
        assert self._told(session) == [EventKind.SLO_BURNING]

    def test_a_person_who_changes_the_pool_is_warned(self, session: Session, pool: Pool) -> None:
        assert service.burn_warning(session, pool.id) is None
        self._see(session, pool, 0, 10)
        assert service.burn_warning(session, pool.id) is None
        self._see(session, pool, 1, 170)
        assert "burns 3.4 times too fast" in (service.burn_warning(session, pool.id) or "")

    def test_a_burning_decision_is_made_again_out_of_the_database(self, session: Session, pool: Pool) -> None:
        row = self._see(session, pool, 0, 170)
        assert row.burn is not None
        assert row.burn["rate"] == 3.4
        session.expire(row)
        assert service.replay(service.get_decision(session, row.id))[0]


class TestReplay:
    def test_is_exact_out_of_the_database(self, session: Session, pool: Pool) -> None:
        row = record(session, pool, decision_inputs(NOW, load=4))
        session.flush()
        session.expire(row)
        identical, again = service.replay(service.get_decision(session, row.id))
        assert identical
        assert again == decide(decision_inputs(NOW, load=4))

    def test_tells_when_it_comes_out_differently(self, session: Session, pool: Pool) -> None:
        row = record(session, pool, decision_inputs(NOW, load=4))
        row.chosen = EngineSettings(max_batch_size=63).model_dump(mode="json")
        assert not service.replay(row)[0]

    def test_an_unknown_decision_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFound, match="nobody"):
            service.get_decision(session, "nobody")


class TestListDecisions:
    def test_pages_newest_first_and_narrows(self, session: Session, pool: Pool) -> None:
        for index, load in enumerate((0.3, 4.0, 0.3)):
            record(session, pool, decision_inputs(NOW + timedelta(seconds=5 * index), load=load))
        rows = service.list_decisions(session, limit=2)
        assert [row.at for row in rows] == [NOW + timedelta(seconds=10), NOW + timedelta(seconds=5)]
        rest = service.list_decisions(session, limit=2, before=(rows[-1].at, rows[-1].id))
        assert [row.at for row in rest] == [NOW]
        assert [r.outcome for r in service.list_decisions(session, limit=9, outcome=Outcome.APPLY)] == ["APPLY"]


class TestPolicies:
    def test_defaults_hold_as_version_0(self, session: Session, pool: Pool) -> None:
        assert service.current_policy(session, pool.id) == (Policy(), 0)

    def test_versions_grow_and_an_old_base_is_stale(self, session: Session, pool: Pool) -> None:
        tight = Policy(slo=Slo(ttft_p95_s=0.5))
        assert service.put_policy(session, pool.id, tight, based_on=0, actor="ann", now=NOW) == (tight, 1)
        assert service.current_policy(session, pool.id) == (tight, 1)
        with pytest.raises(Stale, match="version 1"):
            service.put_policy(session, pool.id, Policy(), based_on=0, actor="bob", now=NOW)
        event = session.scalars(select(Event).where(Event.kind == EventKind.POLICY_CHANGED)).one()
        assert (event.actor, event.data["changed"]) == ("ann", ["slo"])

    def test_the_same_again_is_no_new_version(self, session: Session, pool: Pool) -> None:
        service.put_policy(session, pool.id, Policy(), based_on=0, actor="ann", now=NOW)
        assert service.put_policy(session, pool.id, Policy(), based_on=1, actor="ann", now=NOW)[1] == 1


class TestGatherInputs:
    def test_brings_pool_nodes_and_home_together(self, session: Session, pool: Pool) -> None:
        found = gather(session, pool)
        assert found.settings.max_batch_size == 4
        assert found.home == found.settings
        assert [(node.name, node.ready) for node in found.nodes] == [("node-1", True)]
        assert decide(found).reason is Reason.NO_DATA

    def test_home_is_the_pools_home_and_not_what_is_in_force(self, session: Session, pool: Pool) -> None:
        for size, by in ((6, "ann"), (12, "controller")):
            settings = EngineSettings(max_batch_size=size)
            revision = fleets.create_revision(session, pool, settings, created_by=by, reason="", now=NOW)
            pool.current_revision_id = revision.id
            if by == "ann":
                pool.home_revision_id = revision.id
        found = gather(session, pool)
        assert found.settings.max_batch_size == 12
        assert found.home is not None
        assert found.home.max_batch_size == 6

    def test_a_node_that_is_silent_is_not_ready_and_later_forgotten(self, session: Session, pool: Pool) -> None:
        assert [node.ready for node in gather(session, pool, NOW + timedelta(seconds=60)).nodes] == [False]
        assert gather(session, pool, NOW + timedelta(seconds=601)).nodes == ()

    def test_a_rolled_back_rollout_bars_its_settings(self, session: Session, pool: Pool) -> None:
        row = record(session, pool, decision_inputs(NOW, load=4))
        service.link_rollout(session, row.id, "r1")
        events.record(session, kind=EventKind.ROLLOUT_ROLLED_BACK, message="", at=NOW, pool_id=pool.id, rollout_id="r1")
        back = [change for change in past_changes(session, {pool.id: Policy()}, NOW)[pool.id] if change.rolled_back]
        assert [change.settings_hash for change in back] == [EngineSettings.model_validate(row.chosen).content_hash()]
        later = decision_inputs(NOW + timedelta(seconds=60), load=4)
        tried = replace(later, changes=past_changes(session, {pool.id: Policy()}, later.now)[pool.id])
        again = decide(tried)
        assert again.chosen != EngineSettings.model_validate(row.chosen)


def gather(session: Session, pool: Pool, now: datetime = NOW) -> DecisionInputs:
    nodes = live_nodes(fleets.NodeReadings().of_pool(session, pool.id), now)
    policy = current_policies(session, pool.id).get(pool.id, (Policy(), 0))
    lineage = read_lineage(session, pool)
    around = Around.read(session, {pool.id: policy[0]}, now)
    facts = read_facts(
        pool, nodes, lineage, policy, now=now, around=around, active_rollout=None, heartbeat_timeout_s=15.0
    )
    return make_inputs(facts, observation=None, history=[], forecasts={})


class TestLineages:
    def test_is_read_again_when_the_pool_has_another_revision_and_not_before(
        self, session: Session, pool: Pool
    ) -> None:
        lineages = Lineages()
        number = fleets.newest_numbers(session, pool.id)[pool.id]
        first = lineages.of(session, pool, number)
        assert lineages.of(session, pool, number) is first
        wish = first.settings.replace(max_batch_size=first.settings.max_batch_size + 1)
        made = fleets.create_revision(session, pool, wish, created_by="alice", reason="", now=NOW)
        assert fleets.newest_numbers(session)[pool.id] == number + 1
        again = lineages.of(session, pool, number + 1)
        # Not in force, so not where the pool comes home to.
        assert (again.settings, again.home) == (first.settings, first.home)
        pool.current_revision_id = pool.home_revision_id = made.id
        last = lineages.of(session, pool, number + 1)
        assert (last.settings, last.home) == (wish, wish)
        lineages.forget_all_but(set())
        assert lineages.of(session, pool, number + 1) is not again

    def test_policies_of_all_pools_are_those_of_each(self, session: Session, pool: Pool) -> None:
        assert current_policies(session) == {}
        for number in range(3):
            policy = Policy(slo=Slo(ttft_p95_s=1.0 + number))
            service.put_policy(session, pool.id, policy, based_on=number, actor="alice", now=NOW)
        assert current_policies(session) == {pool.id: service.current_policy(session, pool.id)}
        assert current_policies(session)[pool.id][1] == 3


class TestCapacity:
    def test_a_shortage_is_told_once_with_the_nodes_that_would_do_and_so_is_its_end(
        self, session: Session, pool: Pool
    ) -> None:
        for second in range(2):
            record(session, pool, decision_inputs(NOW + timedelta(seconds=second), 400.0, waiting=50.0))
        told = [event for event in events.list_events(session, limit=50) if event.kind.startswith("capacity")]
        assert [event.kind for event in told] == [EventKind.CAPACITY_INSUFFICIENT.value]
        assert told[0].data["nodes_wanted"] > told[0].data["nodes_ready"] == 1
        record(session, pool, decision_inputs(NOW + timedelta(seconds=60)))
        kinds_told = [
            event.kind for event in events.list_events(session, limit=50) if event.kind.startswith("capacity")
        ]
        assert kinds_told == [EventKind.CAPACITY_SUFFICIENT.value, EventKind.CAPACITY_INSUFFICIENT.value]
