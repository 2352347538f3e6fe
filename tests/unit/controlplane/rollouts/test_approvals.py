from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.decisions.policy import Autonomy, Policy
from controlplane.errors import Conflict
from controlplane.fleets import service as fleets
from controlplane.rollouts import approvals, service
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import RolloutPlan
from controlplane.rollouts.service import CONTROLLER, approvals_needed
from tests.support.registrations import registration
from tests.support.rollouts_in_sql import NOW, POLICY, Lab, lab

P = RolloutPhase
TWO = Policy(rollout=POLICY.rollout.model_copy(update={"approvals": 2}))


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def shown(lab: Lab, rollout: Rollout) -> str:
    return fleets.get_revision(lab.session, rollout.to_revision_id).content_hash


def approve(lab: Lab, rollout: Rollout, actor: str, settings_hash: str | None = None) -> None:
    approvals.approve(
        lab.session, rollout.id, actor, settings_hash=settings_hash or shown(lab, rollout), now=NOW, comment="fine"
    )


class TestApprove:
    def test_two_others_let_it_begin(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin(policy=TWO)
        pool_lab.step(rollout)
        assert rollout.phase == P.PENDING_APPROVAL
        for actor in ("bob", "carol"):
            approve(pool_lab, rollout, actor)
        pool_lab.step(rollout)
        pool_lab.step(rollout)
        assert rollout.phase == P.BASELINING

    def test_nobody_approves_their_own(self, pool_lab: Lab) -> None:
        with pytest.raises(approvals.OwnChange, match="somebody else"):
            approve(pool_lab, pool_lab.begin(policy=TWO), "alice")

    def test_nobody_counts_twice(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin(policy=TWO)
        for _ in range(2):
            approve(pool_lab, rollout, "bob")
        assert approvals.standing(pool_lab.session, rollout, shown(pool_lab, rollout)) == (1, None)

    def test_is_bound_to_the_settings_that_were_shown(self, pool_lab: Lab) -> None:
        with pytest.raises(approvals.OtherSettings, match="look at it again"):
            approve(pool_lab, pool_lab.begin(policy=TWO), "bob", "0123456789abcdef")

    def test_comes_too_late_once_it_has_begun(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin()
        pool_lab.step(rollout)
        with pytest.raises(Conflict, match="before it begins"):
            approve(pool_lab, rollout, "bob")


class TestRefuse:
    def test_one_is_enough_also_against_ones_own_approval(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin(policy=TWO)
        approve(pool_lab, rollout, "bob")
        pool_lab.step(rollout)
        approvals.refuse(
            pool_lab.session, rollout.id, "bob", settings_hash=shown(pool_lab, rollout), now=NOW, comment="I was wrong"
        )
        pool_lab.step(rollout)
        assert (rollout.phase, rollout.active_pool_id) == (P.REJECTED, None)
        assert "I was wrong" in (rollout.outcome or "")


class TestApprovalsNeeded:
    def test_a_knob_that_the_controller_may_only_propose_needs_a_person(self) -> None:
        policy = Policy(autonomy={"precision": Autonomy.APPROVE})
        assert approvals_needed(policy, ["precision"], CONTROLLER) == 1
        assert approvals_needed(policy, ["precision"], "alice") == 0
        assert approvals_needed(policy, ["max_batch_size"], CONTROLLER) == 0


class TestSupersede:
    def _waiting(self, lab: Lab, created_by: str) -> Rollout:
        rollout = lab.begin(16, not_before=NOW + timedelta(hours=1), created_by=created_by)
        lab.step(rollout)
        assert rollout.phase == P.SCHEDULED
        return rollout

    @pytest.mark.parametrize(("old", "new"), [(CONTROLLER, CONTROLLER), (CONTROLLER, "alice"), ("alice", "alice")])
    def test_a_newer_change_takes_the_place_of_one_that_waits(self, pool_lab: Lab, old: str, new: str) -> None:
        first = self._waiting(pool_lab, old)
        second = pool_lab.begin(17, created_by=new)
        pool_lab.session.refresh(first)
        assert (first.phase, first.active_pool_id) == (P.SUPERSEDED, None)
        assert second.active_pool_id == pool_lab.pool.id

    @pytest.mark.parametrize(("old", "new"), [("alice", CONTROLLER), ("alice", "bob")])
    def test_a_persons_is_not_pushed_aside_by_others(self, pool_lab: Lab, old: str, new: str) -> None:
        self._waiting(pool_lab, old)
        with pytest.raises(service.RolloutActive):
            pool_lab.begin(17, created_by=new)

    def test_what_has_begun_stays(self, pool_lab: Lab) -> None:
        first = pool_lab.begin(16, created_by=CONTROLLER)
        pool_lab.step(first)
        with pytest.raises(service.RolloutActive, match=first.id):
            pool_lab.begin(17, created_by=CONTROLLER)

    def test_what_the_controller_decided_does_not_keep_for_a_day(self, pool_lab: Lab) -> None:
        first = self._waiting(pool_lab, CONTROLLER)
        assert first.not_before is not None and first.expires_at is not None
        assert first.expires_at - first.not_before <= timedelta(minutes=15)


def test_it_is_planned_anew_for_the_nodes_that_are_there_when_it_begins(pool_lab: Lab) -> None:
    rollout = pool_lab.begin(policy=TWO)
    pool_lab.step(rollout)
    fleets.register_node(pool_lab.session, registration("node-3"), now=NOW)
    pool_lab.obey(NOW)
    for actor in ("bob", "carol"):
        approve(pool_lab, rollout, actor)
    pool_lab.step(rollout)
    assert RolloutPlan.from_json(rollout.plan).nodes == 3
    assert len(pool_lab.snapshot(rollout).nodes) == 3
