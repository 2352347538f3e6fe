from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Fenced
from controlplane.events.models import Event, OutboxItem
from controlplane.rollouts.execute import Overtaken, execute
from controlplane.rollouts.models import RolloutNode
from controlplane.rollouts.phases import NodeState, RolloutPhase, Verb
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.requests import request
from tests.support.rollouts_in_sql import NOW, Lab, drive, lab, measure

P = RolloutPhase


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


class TestWhatIsWritten:
    def test_a_whole_rollout_ends_with_the_pool_on_the_new_revision(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        drive(pool_lab, rollout, NOW, until=P.COMPLETED)
        assert pool_lab.pool.current_revision_id == rollout.to_revision_id
        assert rollout.active_pool_id is None
        assert rollout.ended_at is not None
        assert all(node.observed_settings["max_batch_size"] == 16 for node in pool_lab.nodes())

    def test_sending_the_canary_raises_its_generation_and_owes_the_push(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        drive(pool_lab, rollout, NOW, until=P.CANARY)
        part = pool_lab.session.scalars(select(RolloutNode).where(RolloutNode.role == "canary")).one()
        canary = next(node for node in pool_lab.nodes() if node.id == part.node_id)
        owed = pool_lab.session.scalars(select(OutboxItem).where(OutboxItem.kind == "push")).all()
        assert part.generation == canary.desired_generation
        assert part.instance_id == canary.instance_id
        assert [item.payload["rollout_id"] for item in owed] == [rollout.id]
        assert canary.desired_epoch == pool_lab.epoch

    def test_each_move_is_an_event_that_says_from_where_to_where(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        events = pool_lab.session.scalars(select(Event).where(Event.rollout_id == rollout.id).order_by(Event.id)).all()
        moves = [(event.data["from"], event.data["to"]) for event in events if "from" in event.data]
        assert moves == [("VALIDATING", "BASELINING"), ("BASELINING", "CANARY"), ("CANARY", "ANALYZING")]


class TestWhoMayWrite:
    def test_a_deposed_leader_writes_nothing(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        with pytest.raises(Fenced):
            pool_lab.step(rollout, epoch=pool_lab.epoch - 1)
        assert (str(rollout.phase), rollout.version) == ("VALIDATING", 1)

    def test_what_was_worked_out_from_an_old_snapshot_is_not_written(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        old = pool_lab.snapshot(rollout)
        pool_lab.step(rollout)
        with pytest.raises(Overtaken):
            execute(pool_lab.session, old, reconcile(old, NOW), epoch=pool_lab.epoch, now=NOW)
        assert rollout.version == 2

    def test_room_that_another_controller_took_meanwhile_is_not_taken_twice(self, pool_lab: Lab) -> None:
        """Pools of one fleet may be led by several controllers; what may be in flight is counted over all of them."""
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.BASELINING)
        seen = pool_lab.snapshot(rollout, now)
        while not (step := reconcile(seen, now)).sends:
            execute(pool_lab.session, seen, step, epoch=pool_lab.epoch, now=now)
            now += timedelta(seconds=5)
            pool_lab.obey(now)
            measure(pool_lab, rollout, now)
            seen = pool_lab.snapshot(rollout, now)
        assert seen.in_flight_free == 1
        part = pool_lab.session.scalars(select(RolloutNode).where(RolloutNode.rollout_id == rollout.id)).first()
        assert part is not None
        part.state = NodeState.DISPATCHED  # as of a rollout of another pool
        with pytest.raises(Overtaken, match="others took the room"), pool_lab.session.begin_nested():
            execute(pool_lab.session, seen, step, epoch=pool_lab.epoch, now=now)

    def test_a_move_that_is_not_in_the_table_is_our_bug(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        seen = pool_lab.snapshot(rollout)
        step = reconcile(seen, NOW)
        assert step.move is not None
        wrong = replace(step, actions=(replace(step.move, to=P.COMPLETED),))
        with pytest.raises(AssertionError, match="table of moves"):
            execute(pool_lab.session, seen, wrong, epoch=pool_lab.epoch, now=NOW)


def test_a_request_that_comes_in_meanwhile_beats_the_end_that_was_worked_out_before_it(pool_lab: Lab) -> None:
    rollout = pool_lab.begin()
    now = drive(pool_lab, rollout, NOW, until=P.PROMOTING)
    pool_lab.obey(now)
    seen = pool_lab.snapshot(rollout, now)
    step = reconcile(seen, now)
    assert step.move is not None and step.move.to is P.COMPLETED
    request(pool_lab.session, rollout.id, Verb.ABORT, "alice", now=now)
    with pytest.raises(Overtaken):
        execute(pool_lab.session, seen, step, epoch=pool_lab.epoch, now=now)
    pool_lab.step(rollout, now)
    assert rollout.phase == P.ROLLING_BACK
