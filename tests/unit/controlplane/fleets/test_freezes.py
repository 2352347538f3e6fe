"""The freeze of everything at once: all pools, those to come, and never the way back."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.freezing import frozen_reason
from controlplane.decisions.policy import Policy
from controlplane.errors import Conflict
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.experiments import begin_experiment
from controlplane.rollouts.phases import PausedBy, RolloutPhase
from controlplane.rollouts.plan import Mode
from tests.support.registrations import registration
from tests.support.rollouts_in_sql import NOW, POLICY, Lab, drive, lab

P = RolloutPhase


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def freeze(session: Session, reason: str = "incident 7") -> None:
    fleets.freeze_everything(session, reason=reason, actor="alice", now=NOW)


def unfreeze(session: Session) -> None:
    fleets.unfreeze_everything(session, actor="bob", now=NOW)


class TestFreezeEverything:
    def test_holds_every_pool_and_those_that_come(self, pool_lab: Lab) -> None:
        session = pool_lab.session
        freeze(session)
        later = fleets.register_node(session, registration("node-9", pool="later"), now=NOW).node.pool
        for pool in (pool_lab.pool, later):
            assert frozen_reason(session, pool, Policy(), NOW) == "everything is frozen by alice: incident 7"
        assert fleets.count_frozen(session) == 2

    def test_pauses_what_is_under_way_and_lets_it_go_on_afterwards(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        freeze(pool_lab.session)
        pool_lab.step(rollout, now)
        assert (rollout.phase, rollout.paused_by) == (P.PAUSED, PausedBy.FREEZE)
        unfreeze(pool_lab.session)
        drive(pool_lab, rollout, now, until=P.COMPLETED)

    def test_refuses_changes_and_experiments_but_not_the_way_back(self, pool_lab: Lab) -> None:
        freeze(pool_lab.session)
        with pytest.raises(rollouts.PoolFrozen, match="everything is frozen by alice: incident 7"):
            pool_lab.begin()
        wanted = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool)).replace(max_batch_size=9)
        with pytest.raises(rollouts.PoolFrozen, match="incident 7"):
            begin_experiment(
                pool_lab.session, pool_lab.nodes()[0].id, wanted, lease_s=60, reason="curious", created_by="alice",
                epoch=pool_lab.epoch, now=NOW, heartbeat_timeout_s=POLICY.rollout.progress_deadline_s,
            )  # fmt: skip
        back = pool_lab.begin(mode=Mode.DIRECT)
        drive(pool_lab, back, NOW, until=P.COMPLETED)

    def test_leaves_the_pools_own_freezes_alone(self, pool_lab: Lab) -> None:
        session, pool = pool_lab.session, pool_lab.pool
        fleets.freeze_pool(session, pool, reason="its own", actor="carol", now=NOW)
        freeze(session)
        unfreeze(session)
        assert frozen_reason(session, pool, Policy(), NOW) == "its own"
        fleets.unfreeze_pool(session, pool, actor="carol", now=NOW)
        assert frozen_reason(session, pool, Policy(), NOW) is None

    def test_stands_once_and_says_who_made_it(self, session: Session) -> None:
        freeze(session)
        with pytest.raises(Conflict, match="by alice since 2026-01-01 12:00:00 UTC: incident 7"):
            freeze(session, "another")

    def test_is_in_the_history_with_its_end_once(self, session: Session) -> None:
        unfreeze(session)
        freeze(session)
        unfreeze(session)
        unfreeze(session)
        found = session.execute(select(Event.kind, Event.actor).where(Event.kind.like("control.%")).order_by(Event.id))
        assert [tuple(row) for row in found] == [("control.frozen", "alice"), ("control.unfrozen", "bob")]
