from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.errors import Fenced
from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.processes.shards import Terms
from controlplane.rollouts.convergence import AGAIN_S, PATIENCE_S, Strays, converge, find_strays
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, lab

LATER = NOW + timedelta(seconds=PATIENCE_S + 1)


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def wish(lab: Lab, batch: int = 16) -> Node:
    """A wish for the first node that its pool has, too, but the second node does not know of."""
    settings = fleets.settings_of(fleets.current_revision(lab.session, lab.pool)).replace(max_batch_size=batch)
    revision = fleets.create_revision(lab.session, lab.pool, settings, created_by="alice", reason="", now=NOW)
    node = lab.nodes()[0]
    fleets.set_desired(lab.session, node, revision, epoch=lab.epoch, now=NOW)
    lab.pool.current_revision_id = revision.id
    lab.session.flush()
    return node


def strays(lab: Lab) -> Strays:
    return find_strays(lab.session, now=LATER, heartbeat_timeout_s=TIMEOUT_S, terms=lab.terms)


def close_debts(lab: Lab) -> None:
    lab.session.execute(update(OutboxItem).values(done_at=NOW))


def debts(lab: Lab, node: Node) -> list[str]:
    query = select(OutboxItem.key).where(OutboxItem.done_at.is_(None), OutboxItem.key.startswith(f"push:{node.id}"))
    return list(lab.session.scalars(query))


class TestBehind:
    def test_a_lost_push_is_owed_again(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        close_debts(pool_lab)
        assert node.id in strays(pool_lab).behind
        converge(pool_lab.session, Strays((node.id,), ()), terms=pool_lab.terms, now=LATER)
        assert len(debts(pool_lab, node)) == 1

    def test_one_that_is_still_owed_is_not_owed_twice(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        assert converge(pool_lab.session, Strays((node.id,), ()), terms=pool_lab.terms, now=LATER) == 0
        assert len(debts(pool_lab, node)) == 1

    def test_a_push_that_was_given_up_is_owed_again(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        pool_lab.session.execute(update(OutboxItem).values(dead_at=NOW))
        assert converge(pool_lab.session, Strays((node.id,), ()), terms=pool_lab.terms, now=LATER) == 1

    def test_a_node_that_never_agrees_is_owed_one_push_in_half_a_minute(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        owed = 0
        for _ in range(3):
            close_debts(pool_lab)
            owed += converge(pool_lab.session, Strays((node.id,), ()), terms=pool_lab.terms, now=LATER)
        assert owed == 1

    def test_a_node_has_some_seconds_first(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        assert (
            node.id
            not in find_strays(pool_lab.session, now=NOW, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms).behind
        )

    def test_a_node_that_refused_is_left_alone(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        node.rejected_generation = node.desired_generation
        assert node.id not in strays(pool_lab).behind

    def test_a_node_that_prepares_is_left_alone(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        node.preparing_generation = node.desired_generation
        assert node.id not in strays(pool_lab).behind

    def test_a_silent_node_is_not_pushed_at(self, pool_lab: Lab) -> None:
        node = wish(pool_lab)
        long_after = NOW + timedelta(minutes=5)
        pool_lab.beat(pool_lab.nodes()[1], long_after)
        assert (
            node.id
            not in find_strays(
                pool_lab.session, now=long_after, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms
            ).behind
        )

    def test_a_node_whose_settings_were_changed_by_hand_is_brought_back(self, pool_lab: Lab) -> None:
        node = pool_lab.nodes()[0]
        hand = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool)).replace(max_queue=7)
        pool_lab.beat(node, NOW, settings=hand, drifted=True)
        assert node.id in strays(pool_lab).behind


class TestAstray:
    def test_a_node_with_another_wish_than_its_pool_gets_the_pools(self, pool_lab: Lab) -> None:
        wish(pool_lab)
        other = pool_lab.nodes()[1]
        assert strays(pool_lab).astray == (other.id,)
        converge(pool_lab.session, strays(pool_lab), terms=pool_lab.terms, now=LATER)
        assert other.desired_revision_id == pool_lab.pool.current_revision_id

    def test_not_while_a_rollout_is_under_way(self, pool_lab: Lab) -> None:
        wish(pool_lab)
        found = strays(pool_lab)
        pool_lab.obey(NOW)
        pool_lab.begin(20)
        assert strays(pool_lab).astray == ()
        before = pool_lab.nodes()[1].desired_generation
        converge(pool_lab.session, found, terms=pool_lab.terms, now=LATER)
        assert pool_lab.nodes()[1].desired_generation == before


def test_a_fleet_in_order_has_no_strays(pool_lab: Lab) -> None:
    assert not strays(pool_lab)


def test_a_deposed_leader_owes_nothing(pool_lab: Lab) -> None:
    with pytest.raises(Fenced):
        converge(
            pool_lab.session, Strays((pool_lab.nodes()[0].id,), ()), terms=Terms.everywhere(pool_lab.epoch - 1), now=NOW
        )


class TestRefused:
    """A node that refused outside of any rollout (it was away while the others changed) must not stay so for ever."""

    def refuse(self, lab: Lab) -> Node:
        node = wish(lab)
        lab.beat(node, NOW, rejected_generation=node.desired_generation, rejected_reason="no memory for it")
        return node

    def test_is_left_alone_at_first(self, pool_lab: Lab) -> None:
        node = self.refuse(pool_lab)
        assert node.id not in strays(pool_lab).refused

    def test_is_asked_again_under_another_generation(self, pool_lab: Lab) -> None:
        node = self.refuse(pool_lab)
        before = node.desired_generation
        later = NOW + timedelta(seconds=AGAIN_S + 1)
        pool_lab.beat(node, later)
        found = find_strays(pool_lab.session, now=later, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms)
        assert found.refused == (node.id,)
        converge(pool_lab.session, found, terms=pool_lab.terms, now=later)
        assert node.desired_generation == before + 1

    def test_waits_longer_each_time(self, pool_lab: Lab) -> None:
        node = self.refuse(pool_lab)
        node.refusals = 3
        later = NOW + timedelta(seconds=2 * AGAIN_S)
        pool_lab.beat(node, later)
        assert not find_strays(pool_lab.session, now=later, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms).refused

    def test_is_left_to_the_rollout_while_one_is_under_way(self, pool_lab: Lab) -> None:
        node = self.refuse(pool_lab)
        pool_lab.begin(24)
        later = NOW + timedelta(seconds=AGAIN_S + 1)
        pool_lab.beat(node, later)
        assert not find_strays(pool_lab.session, now=later, heartbeat_timeout_s=TIMEOUT_S, terms=pool_lab.terms).refused
