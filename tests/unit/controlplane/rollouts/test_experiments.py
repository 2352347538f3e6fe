"""Settings tried on one node under a lease: who may, when they end, and who ends them."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Conflict
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts import experiments, service
from controlplane.rollouts.convergence import converge, find_strays
from tests.support.registrations import registration
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, lab

LEASE_S = 60.0


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def begin(lab: Lab, number: int = 0, batch: int = 24, now: object = NOW) -> Node:
    node = lab.nodes()[number]
    wanted = fleets.settings_of(fleets.current_revision(lab.session, lab.pool)).replace(max_batch_size=batch)
    return experiments.begin_experiment(
        lab.session, node.id, wanted, lease_s=LEASE_S, reason="curious", created_by="alice", epoch=lab.epoch, now=NOW,
        heartbeat_timeout_s=TIMEOUT_S,
    )  # fmt: skip


def tick(lab: Lab, seconds: float) -> None:
    now = NOW + timedelta(seconds=seconds)
    lab.obey(now)
    strays = find_strays(lab.session, now=now, heartbeat_timeout_s=TIMEOUT_S, terms=lab.terms)
    converge(lab.session, strays, terms=lab.terms, now=now)
    lab.obey(now)


def current(lab: Lab) -> str:
    return fleets.current_revision(lab.session, lab.pool).content_hash


def kinds(lab: Lab, node: Node) -> list[str]:
    query = select(Event.kind).where(Event.node_id == node.id, Event.kind.like("node.experiment%")).order_by(Event.id)
    return list(lab.session.scalars(query))


class TestItsLife:
    def test_the_document_carries_lease_and_way_back(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        document = fleets.desired_push(pool_lab.session, node)
        assert document is not None and document.fallback is not None
        assert (document.lease_s, document.settings.max_batch_size) == (LEASE_S, 24)
        assert document.fallback.content_hash() == current(pool_lab)

    def test_the_pool_leaves_it_alone_until_it_is_over_and_takes_it_back_then(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        tick(pool_lab, LEASE_S - 1)
        assert node.observed_hash != current(pool_lab)
        tick(pool_lab, LEASE_S + 1)
        assert (node.observed_hash, node.lease_s) == (current(pool_lab), None)
        assert kinds(pool_lab, node) == ["node.experiment_started", "node.experiment_ended"]

    def test_a_node_that_went_back_by_itself_ends_it_without_a_controller(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        pool_lab.obey(NOW)
        tried = node.desired_generation
        back = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool))
        later = NOW + timedelta(seconds=5)
        pool_lab.beat(
            node, later, settings=back, observed_generation=tried, observed_epoch=node.desired_epoch, lapsed=True
        )
        assert (node.lease_s, node.desired_generation) == (None, tried + 1)

    def test_a_refusal_ends_it(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        tried = node.desired_generation
        pool_lab.beat(node, NOW, rejected_generation=tried, rejected_reason="no memory for it")
        assert (node.lease_s, node.desired_generation) == (None, tried + 1)
        assert node.desired_revision_id == pool_lab.pool.current_revision_id

    def test_a_restart_ends_it(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        pool_lab.obey(NOW)
        reborn = registration(node.name, instance_id="next-life", observed_generation=node.observed_generation)
        fleets.register_node(pool_lab.session, reborn, now=NOW)
        assert (node.lease_s, node.desired_revision_id) == (None, pool_lab.pool.current_revision_id)

    def test_it_is_ended_by_hand_and_that_twice_is_once(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        experiments.end_experiment(pool_lab.session, node.id, now=NOW)
        generation = node.desired_generation
        experiments.end_experiment(pool_lab.session, node.id, now=NOW)
        assert (node.lease_s, node.desired_generation) == (None, generation)

    def test_a_rollout_ends_the_experiments_of_its_pool(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        pool_lab.begin(16)
        assert (node.lease_s, node.desired_revision_id) == (None, pool_lab.pool.current_revision_id)

    def test_a_second_one_on_the_same_node_takes_its_place(self, pool_lab: Lab) -> None:
        node = begin(pool_lab)
        begin(pool_lab, batch=25)
        assert node.lease_s == LEASE_S
        assert kinds(pool_lab, node) == [
            "node.experiment_started",
            "node.experiment_ended",
            "node.experiment_started",
        ]


class TestWhenNot:
    def test_beyond_what_a_canary_may_be(self, pool_lab: Lab) -> None:
        begin(pool_lab)
        with pytest.raises(experiments.TooManyExperiments, match="node-1 is: end that first"):
            begin(pool_lab, number=1)

    def test_during_a_rollout(self, pool_lab: Lab) -> None:
        pool_lab.begin(16)
        with pytest.raises(service.RolloutActive):
            begin(pool_lab)

    def test_in_a_frozen_pool(self, pool_lab: Lab) -> None:
        fleets.freeze_pool(pool_lab.session, pool_lab.pool, reason="incident", actor="alice", now=NOW)
        with pytest.raises(service.PoolFrozen):
            begin(pool_lab)

    def test_with_the_settings_that_it_has(self, pool_lab: Lab) -> None:
        now_has = fleets.settings_of(fleets.current_revision(pool_lab.session, pool_lab.pool)).max_batch_size
        with pytest.raises(service.NothingToChange):
            begin(pool_lab, batch=now_has)

    def test_on_a_node_that_is_not_there(self, pool_lab: Lab) -> None:
        pool_lab.nodes()[0].last_heartbeat_at = NOW - timedelta(minutes=2)
        pool_lab.session.flush()
        with pytest.raises(Conflict, match="node-1"):
            begin(pool_lab)
