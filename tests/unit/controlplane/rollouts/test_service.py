from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.errors import Conflict, NotFound
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.rollouts import service
from controlplane.rollouts.models import RolloutNode
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.plan import Mode, NoNodeReady, RolloutPlan
from controlplane.rollouts.requests import request, roll_back_to
from tests.support.rollouts_in_sql import NOW, POLICY, Lab, drive, lab


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def roles(lab: Lab, rollout_id: str) -> list[tuple[str, int]]:
    query = select(RolloutNode.role, RolloutNode.wave).where(RolloutNode.rollout_id == rollout_id)
    return [(role, wave) for role, wave in lab.session.execute(query.order_by(RolloutNode.wave))]


class TestCreateRollout:
    def test_plans_canary_and_rest_and_tells_of_it(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        assert rollout.phase == RolloutPhase.VALIDATING
        assert roles(pool_lab, rollout.id) == [("canary", 0), ("control", 1)]
        event = pool_lab.session.scalars(select(Event).where(Event.rollout_id == rollout.id)).one()
        assert event.kind == "rollout.created"
        assert "max_batch_size 8 → 16" in event.message

    def test_keeps_the_policy_that_it_was_planned_with(self, pool_lab: Lab) -> None:
        assert RolloutPlan.from_json(pool_lab.begin().plan).policy == POLICY.rollout

    def test_refuses_a_second_one_in_the_pool(self, pool_lab: Lab) -> None:
        first = pool_lab.begin()
        with pytest.raises(service.RolloutActive, match=first.id):
            pool_lab.begin(17)

    def test_refuses_while_the_pool_is_frozen_but_for_the_way_back(self, pool_lab: Lab) -> None:
        fleets.freeze_pool(pool_lab.session, pool_lab.pool, reason="incident 7", actor="alice", now=NOW)
        with pytest.raises(service.PoolFrozen, match="incident 7"):
            pool_lab.begin()
        assert pool_lab.begin(mode=Mode.DIRECT).phase == RolloutPhase.VALIDATING

    def test_refuses_settings_that_are_in_force(self, pool_lab: Lab) -> None:
        with pytest.raises(service.NothingToChange, match="revision 1"):
            pool_lab.begin(8)

    def test_refuses_when_no_node_is_ready(self, pool_lab: Lab) -> None:
        with pytest.raises(NoNodeReady, match="node-1, node-2"):
            pool_lab.begin(now=NOW + timedelta(minutes=5))


class TestRequest:
    def test_is_left_for_the_controller_and_told(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        request(pool_lab.session, rollout.id, Verb.PAUSE, "bob", now=NOW, reason="let me look")
        assert (rollout.request, rollout.request_actor, rollout.request_reason) == ("pause", "bob", "let me look")
        assert rollout.phase == RolloutPhase.VALIDATING
        newest = pool_lab.session.scalars(select(Event).order_by(Event.id.desc()).limit(1)).one()
        assert (newest.kind, newest.actor) == ("rollout.requested", "bob")

    def test_abort_beats_promote(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        rollout.phase = RolloutPhase.ANALYZING
        request(pool_lab.session, rollout.id, Verb.PROMOTE, "alice", now=NOW)
        request(pool_lab.session, rollout.id, Verb.ABORT, "bob", now=NOW)
        with pytest.raises(Conflict, match="bob has asked to abort"):
            request(pool_lab.session, rollout.id, Verb.PROMOTE, "alice", now=NOW)
        assert rollout.request == "abort"

    @pytest.mark.parametrize(
        ("phase", "verb", "words"),
        [
            (RolloutPhase.COMPLETED, Verb.PAUSE, "has ended"),
            (RolloutPhase.ROLLED_BACK, Verb.ROLLBACK, "has ended"),
            (RolloutPhase.ROLLING_BACK, Verb.ABORT, "rolled back already"),
            (RolloutPhase.ANALYZING, Verb.RESUME, "not paused"),
            (RolloutPhase.PAUSED, Verb.PAUSE, "paused already"),
            (RolloutPhase.BASELINING, Verb.PROMOTE, "once its canary runs"),
            (RolloutPhase.PROMOTING, Verb.PROMOTE, "on its way"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, pool_lab: Lab, phase: RolloutPhase, verb: Verb, words: str) -> None:
        rollout = pool_lab.begin()
        rollout.phase = phase
        with pytest.raises(Conflict, match=words):
            request(pool_lab.session, rollout.id, verb, "bob", now=NOW)

    def test_of_an_unknown_rollout_is_not_found(self, pool_lab: Lab) -> None:
        with pytest.raises(NotFound, match="nowhere"):
            request(pool_lab.session, "nowhere", Verb.ABORT, "bob", now=NOW)


class TestRollbackOfACompletedOne:
    def done(self, lab: Lab) -> str:
        rollout = lab.begin()
        rollout.phase, rollout.active_pool_id = RolloutPhase.COMPLETED, None
        lab.pool.current_revision_id = rollout.to_revision_id
        lab.session.flush()
        return rollout.id

    def test_is_a_new_rollout_straight_back(self, pool_lab: Lab) -> None:
        done = service.get_rollout(pool_lab.session, self.done(pool_lab))
        back = request(pool_lab.session, done.id, Verb.ROLLBACK, "bob", now=NOW, policy=POLICY)
        assert back.id != done.id
        assert (back.from_revision_id, back.to_revision_id) == (done.to_revision_id, done.from_revision_id)
        assert RolloutPlan.from_json(back.plan).mode is Mode.DIRECT

    def test_is_refused_once_something_else_is_in_force(self, pool_lab: Lab) -> None:
        rollout_id = self.done(pool_lab)
        pool_lab.pool.current_revision_id = service.get_rollout(pool_lab.session, rollout_id).from_revision_id
        with pytest.raises(Conflict, match="runs revision 1 by now"):
            request(pool_lab.session, rollout_id, Verb.ROLLBACK, "bob", now=NOW)


def test_lists_are_newest_first_and_narrowed(pool_lab: Lab) -> None:
    first = pool_lab.begin()
    first.active_pool_id = None
    second = pool_lab.begin(17, now=NOW + timedelta(seconds=1))
    listed = service.list_rollouts(pool_lab.session, limit=10)
    assert [row.id for row in listed] == [second.id, first.id]
    assert [row.id for row in service.list_rollouts(pool_lab.session, limit=10, active=True)] == [second.id]
    assert [row.id for row in service.list_rollouts(pool_lab.session, limit=10, before_id=second.id)] == [first.id]
    assert pool_lab.session.scalar(select(func.count()).select_from(RolloutNode)) == 4


class TestRollBackTo:
    def _good(self, lab: Lab, *batches: int) -> None:
        now = NOW
        for batch in batches:
            now = drive(lab, lab.begin(batch, now=now), now, until=RolloutPhase.COMPLETED) + timedelta(seconds=1)

    def _back(self, lab: Lab, number: int) -> str:
        now = NOW + timedelta(hours=1)
        lab.obey(now)
        rollout = roll_back_to(
            lab.session, lab.pool, number, "alice", policy=POLICY, now=now, reason="slow", epoch=lab.epoch
        )
        drive(lab, rollout, now, until=RolloutPhase.COMPLETED)
        return rollout.id

    def test_goes_straight_to_any_of_the_last_three_also_while_frozen(self, pool_lab: Lab) -> None:
        self._good(pool_lab, 16, 17, 18)
        assert [row.number for row in service.last_good(pool_lab.session, pool_lab.pool)] == [3, 2, 1]
        fleets.freeze_pool(pool_lab.session, pool_lab.pool, reason="incident 7", actor="alice", now=NOW)
        self._back(pool_lab, 2)
        assert {node.observed_settings["max_batch_size"] for node in pool_lab.nodes()} == {16}

    def test_refuses_one_that_was_never_good(self, pool_lab: Lab) -> None:
        self._good(pool_lab, 16)
        with pytest.raises(Conflict, match="canary"):
            roll_back_to(
                pool_lab.session, pool_lab.pool, 7, "alice", policy=POLICY, now=NOW, reason="x", epoch=pool_lab.epoch
            )


class TestNotBegun:
    def test_is_told_with_the_decision_and_the_reason(self, pool_lab: Lab) -> None:
        error = NoNodeReady("no node of the pool is ready")
        service.note_not_begun(pool_lab.session, pool_lab.pool.id, "decision-1", error, at=NOW)
        event = pool_lab.session.scalars(select(Event).where(Event.kind == "rollout.not_begun")).one()
        assert (event.decision_id, event.severity) == ("decision-1", "warning")
        assert "no node of the pool is ready" in event.message


class TestIsKnown:
    """Which settings need no canary when they protect."""

    def ended(
        self,
        lab: Lab,
        batch: int,
        minute: int,
        phase: RolloutPhase = RolloutPhase.COMPLETED,
        by: str = "alice",
        mode: Mode = Mode.CANARY,
    ) -> None:
        rollout = lab.begin(batch, created_by=by, mode=mode)
        rollout.phase, rollout.active_pool_id, rollout.ended_at = phase, None, NOW + timedelta(minutes=minute)
        if phase is RolloutPhase.COMPLETED:
            lab.pool.current_revision_id = rollout.to_revision_id
        lab.session.flush()

    def is_known(self, lab: Lab, batch: int, minute: int = 10, known_for_s: float = 3600.0) -> bool:
        wanted = fleets.settings_of(fleets.current_revision(lab.session, lab.pool)).replace(max_batch_size=batch)
        policy = POLICY.model_copy(update={"rollout": POLICY.rollout.model_copy(update={"known_for_s": known_for_s})})
        return service.is_known(lab.session, lab.pool, wanted.content_hash(), policy, NOW + timedelta(minutes=minute))

    def test_what_was_never_in_force_is_not(self, pool_lab: Lab) -> None:
        self.ended(pool_lab, 16, 1)
        assert not self.is_known(pool_lab, 17)

    def test_what_was_completed_and_left_again_is_for_a_while(self, pool_lab: Lab) -> None:
        self.ended(pool_lab, 16, 1)
        self.ended(pool_lab, 8, 2, by=service.CONTROLLER)
        assert self.is_known(pool_lab, 16)
        assert not self.is_known(pool_lab, 16, minute=70)
        assert not self.is_known(pool_lab, 16, known_for_s=0.0)

    def test_so_is_what_the_first_change_left(self, pool_lab: Lab) -> None:
        self.ended(pool_lab, 16, 1)
        assert self.is_known(pool_lab, 8)

    def test_what_was_taken_back_later_is_not(self, pool_lab: Lab) -> None:
        self.ended(pool_lab, 16, 1)
        self.ended(pool_lab, 8, 2)
        self.ended(pool_lab, 16, 3, RolloutPhase.ROLLED_BACK)
        assert not self.is_known(pool_lab, 16)

    def test_what_a_person_led_away_from_is_not(self, pool_lab: Lab) -> None:
        self.ended(pool_lab, 16, 1)
        self.ended(pool_lab, 8, 2, mode=Mode.DIRECT)
        assert not self.is_known(pool_lab, 16)
        assert self.is_known(pool_lab, 8)

    def test_a_frozen_pool_takes_none_of_the_controllers(self, pool_lab: Lab) -> None:
        fleets.freeze_pool(pool_lab.session, pool_lab.pool, reason="incident 7", actor="alice", now=NOW)
        with pytest.raises(service.PoolFrozen, match="incident 7"):
            pool_lab.begin(mode=Mode.DIRECT, created_by=service.CONTROLLER)
