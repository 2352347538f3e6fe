from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Conflict
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.rollouts import convergence
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import RolloutPlan
from tests.support.registrations import registration
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, drive, lab

P = RolloutPhase


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def kinds(lab: Lab) -> list[str]:
    return list(lab.session.scalars(select(Event.kind).where(Event.kind.like("node.%"))))


class TestRemoveNode:
    def _remove(self, lab: Lab, *, force: bool = False, later_s: float = 0) -> None:
        node = lab.nodes()[1]
        now = NOW + timedelta(seconds=later_s)
        fleets.remove_node(lab.session, node.id, actor="alice", now=now, heartbeat_timeout_s=TIMEOUT_S, force=force)

    def test_it_is_gone_from_everything_that_lists_nodes(self, pool_lab: Lab) -> None:
        self._remove(pool_lab, later_s=60)
        assert [node.name for node in pool_lab.nodes()] == ["node-1"]
        assert "node.removed" in kinds(pool_lab)

    def test_one_that_still_runs_is_refused_unless_forced(self, pool_lab: Lab) -> None:
        with pytest.raises(Conflict, match="stop it first"):
            self._remove(pool_lab)
        self._remove(pool_lab, force=True)
        assert len(pool_lab.nodes()) == 1

    def test_it_comes_back_under_its_name_as_the_same_node(self, pool_lab: Lab) -> None:
        before = pool_lab.nodes()[1].id
        self._remove(pool_lab, force=True)
        fleets.register_node(pool_lab.session, registration("node-2", instance_id="new"), now=NOW)
        assert [node.id for node in pool_lab.nodes()][1] == before

    def test_a_rollout_that_compared_with_it_waits_for_a_person(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        control = next(node for node in pool_lab.nodes() if node.id in RolloutPlan.from_json(rollout.plan).control)
        fleets.remove_node(
            pool_lab.session, control.id, actor="alice", now=now, heartbeat_timeout_s=TIMEOUT_S, force=True
        )
        drive(pool_lab, rollout, now, until=P.PAUSED)
        assert rollout.paused_by == "error"


class TestQuarantine:
    def _quarantine(self, lab: Lab) -> None:
        fleets.quarantine_node(
            lab.session, lab.nodes()[0], until=NOW + timedelta(hours=1), reason="it crashed", now=NOW
        )

    def test_it_is_neither_canary_nor_control(self, pool_lab: Lab) -> None:
        self._quarantine(pool_lab)
        plan = RolloutPlan.from_json(pool_lab.begin().plan)
        assert pool_lab.nodes()[0].id not in (*plan.canary, *plan.control)

    def test_it_keeps_its_settings_until_released_and_follows_then(self, pool_lab: Lab) -> None:
        self._quarantine(pool_lab)
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.COMPLETED)
        node = pool_lab.nodes()[0]
        assert node.desired_revision_id == rollout.from_revision_id
        assert not convergence.find_strays(
            pool_lab.session, now=now, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms
        )
        fleets.release_node(pool_lab.session, node.id, actor="alice", now=now)
        strays = convergence.find_strays(pool_lab.session, now=now, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms)
        convergence.converge(pool_lab.session, strays, terms=pool_lab.terms, now=now)
        assert node.desired_revision_id == rollout.to_revision_id

    def test_it_ends_by_itself(self, pool_lab: Lab) -> None:
        self._quarantine(pool_lab)
        assert not fleets.is_quarantined(pool_lab.nodes()[0], NOW + timedelta(hours=1))

    def test_a_canary_that_crashes_goes_there(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        canary_id = RolloutPlan.from_json(rollout.plan).canary[0]
        canary = fleets.get_node(pool_lab.session, canary_id)
        again = registration(
            canary.name, instance_id="second", observed_generation=canary.observed_generation,
            observed_epoch=canary.observed_epoch, settings=fleets.settings_of(canary.desired_revision),  # type: ignore[arg-type]
        )  # fmt: skip
        fleets.register_node(pool_lab.session, again, now=now)
        drive(pool_lab, rollout, now, until=P.ROLLED_BACK)
        assert fleets.is_quarantined(canary, now)
        assert "node.quarantined" in kinds(pool_lab)

    @pytest.mark.parametrize(("before", "there"), [(1, False), (2, True)])
    def test_three_refusals_in_a_row_lead_there(self, pool_lab: Lab, before: int, there: bool) -> None:
        rollout = pool_lab.begin()
        now = drive(pool_lab, rollout, NOW, until=P.CANARY)
        canary = fleets.get_node(pool_lab.session, RolloutPlan.from_json(rollout.plan).canary[0])
        canary.refusals = before
        pool_lab.beat(canary, now, rejected_generation=canary.desired_generation, rejected_reason="no memory")
        pool_lab.step(rollout, now)
        assert rollout.phase == P.ROLLING_BACK
        assert fleets.is_quarantined(canary, now) is there

    def test_what_is_applied_ends_the_row(self, pool_lab: Lab) -> None:
        canary = pool_lab.nodes()[0]
        canary.refusals = 2
        drive(pool_lab, pool_lab.begin(), NOW, until=P.COMPLETED)
        assert canary.refusals == 0
