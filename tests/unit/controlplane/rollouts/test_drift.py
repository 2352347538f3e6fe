"""An operator edits settings at a node: what becomes of them under each policy."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.policy import OnDrift, Policy
from controlplane.decisions.service import put_policy
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts.convergence import Strays, converge, find_strays
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase
from tests.support.rollouts_in_sql import NOW, POLICY, TIMEOUT_S, Lab, drive, lab

LATER = NOW + timedelta(seconds=10)
P = RolloutPhase


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session, nodes=3)


def policy(pool_lab: Lab, on_drift: OnDrift) -> None:
    autonomy = Policy().autonomy | {"max_batch_size": "auto", "max_queue": "approve"}
    document = POLICY.model_dump() | {"on_drift": on_drift, "autonomy": autonomy}
    wanted = Policy.model_validate(document)
    put_policy(pool_lab.session, pool_lab.pool.id, wanted, based_on=0, actor="alice", now=NOW)


def edit(pool_lab: Lab, *, edited: bool = True, **knobs: int) -> Node:
    node = pool_lab.nodes()[0]
    by_hand = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool)).replace(**knobs)
    pool_lab.beat(node, LATER, settings=by_hand, drifted=True, edited=edited)
    return node


def strays(pool_lab: Lab) -> Strays:
    return find_strays(pool_lab.session, now=LATER, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms)


def settle(pool_lab: Lab) -> list[Rollout]:
    converge(pool_lab.session, strays(pool_lab), terms=pool_lab.terms, now=LATER)
    return list(pool_lab.session.scalars(select(Rollout)))


class TestReassert:
    def test_is_the_default(self, pool_lab: Lab) -> None:
        node = edit(pool_lab, max_batch_size=9)
        assert strays(pool_lab).behind == (node.id,)

    @pytest.mark.parametrize("on_drift", [OnDrift.LEAVE, OnDrift.ADOPT])
    def test_holds_for_what_a_node_fell_back_to_under_any_policy(self, pool_lab: Lab, on_drift: OnDrift) -> None:
        """A node that could not start with its settings runs on others, which nobody wished for."""
        policy(pool_lab, on_drift)
        node = edit(pool_lab, edited=False, max_batch_size=9)
        assert strays(pool_lab) == Strays((node.id,), ())


class TestLeave:
    def test_lets_it_be_until_the_pool_changes(self, pool_lab: Lab) -> None:
        policy(pool_lab, OnDrift.LEAVE)
        node = edit(pool_lab, max_batch_size=9)
        assert not strays(pool_lab)
        fleets.set_desired(
            pool_lab.session, node, fleets.current_revision(pool_lab.session, pool_lab.pool), epoch=pool_lab.epoch, now=NOW
        )  # fmt: skip
        assert strays(pool_lab).behind == (node.id,)


class TestAdopt:
    def test_makes_it_a_change_of_the_pool_from_the_canary_on(self, pool_lab: Lab) -> None:
        policy(pool_lab, OnDrift.ADOPT)
        node = edit(pool_lab, max_batch_size=9)
        (rollout,) = settle(pool_lab)
        assert rollout.reason.startswith("edited at node node-1")
        assert node.desired_revision_id == pool_lab.pool.current_revision_id  # back first
        assert not strays(pool_lab)
        drive(pool_lab, rollout, LATER, until=P.COMPLETED)
        assert {n.observed_settings["max_batch_size"] for n in pool_lab.nodes()} == {9}

    def test_windows_of_before_are_of_the_pools_settings(self, pool_lab: Lab) -> None:
        policy(pool_lab, OnDrift.ADOPT)
        edit(pool_lab, max_batch_size=9)
        (rollout,) = settle(pool_lab)
        assert pool_lab.snapshot(rollout, LATER).steady_since == LATER

    def test_asks_a_person_where_the_controller_may_only_propose(self, pool_lab: Lab) -> None:
        policy(pool_lab, OnDrift.ADOPT)
        edit(pool_lab, max_queue=9)
        (rollout,) = settle(pool_lab)
        assert rollout.approvals_needed == 1

    def test_waits_with_the_edit_in_force_while_another_change_is_under_way_or_the_pool_is_frozen(
        self, pool_lab: Lab
    ) -> None:
        policy(pool_lab, OnDrift.ADOPT)
        node = edit(pool_lab, max_batch_size=9)
        fleets.freeze_pool(pool_lab.session, pool_lab.pool, reason="incident", actor="alice", now=LATER)
        assert settle(pool_lab) == []
        fleets.unfreeze_pool(pool_lab.session, pool_lab.pool, actor="alice", now=LATER)
        found, other = strays(pool_lab), pool_lab.begin(batch=20)
        assert not strays(pool_lab)
        generation = node.desired_generation
        converge(pool_lab.session, found, terms=pool_lab.terms, now=LATER)  # begun in between
        assert list(pool_lab.session.scalars(select(Rollout))) == [other]
        assert node.desired_generation == generation

    def test_two_edits_become_one_change_after_the_other(self, pool_lab: Lab) -> None:
        policy(pool_lab, OnDrift.ADOPT)
        edit(pool_lab, max_batch_size=9)
        second = pool_lab.nodes()[1]
        by_hand = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool)).replace(
            max_batch_size=11
        )
        pool_lab.beat(second, LATER, settings=by_hand, drifted=True, edited=True)
        assert len(strays(pool_lab).edited) == 2
        assert len(settle(pool_lab)) == 1
        assert second.observed_settings["max_batch_size"] == 11 and second.edited
