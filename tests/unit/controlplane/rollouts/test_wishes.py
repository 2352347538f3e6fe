"""What people wished for, tried and took back, as the controller goes by it: where it leads back to, and what it leaves alone."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.decisions.around import Around, past_changes
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import PastChange
from controlplane.decisions.gather import live_nodes, read_facts
from controlplane.decisions.guardrails import barred_settings, proven_settings
from controlplane.decisions.lineage import read_lineage
from controlplane.decisions.policy import Policy
from controlplane.decisions.service import record_decision
from controlplane.fleets import service as fleets
from controlplane.rollouts import experiments
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.requests import request
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.decision_inputs import THREAT_RPS, decision_inputs
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, drive, lab

P = RolloutPhase


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def home_batch(lab: Lab) -> int:
    home = read_lineage(lab.session, lab.pool).home
    assert home is not None
    return home.max_batch_size


def wanted_hash(lab: Lab, rollout: Rollout) -> str:
    return fleets.get_revision(lab.session, rollout.to_revision_id).content_hash


def changes_of(lab: Lab) -> tuple[PastChange, ...]:
    return past_changes(lab.session, {lab.pool.id: Policy()}, NOW + timedelta(minutes=10))[lab.pool.id]


def own_settings(lab: Lab) -> EngineSettings:
    return fleets.settings_of(fleets.current_revision(lab.session, lab.pool))


def by_controller(lab: Lab, batch: int, minutes: float = 0) -> Rollout:
    now = NOW + timedelta(minutes=minutes)
    wanted = own_settings(lab).replace(max_batch_size=batch)
    made = fleets.create_revision(lab.session, lab.pool, wanted, created_by="controller", reason="", now=now)
    inputs = decision_inputs(now, THREAT_RPS)
    decided = replace(decide(inputs), chosen=wanted)
    decision_id = record_decision(
        lab.session, decided, pool_id=lab.pool.id, inputs=inputs, epoch=lab.epoch, actor="controller"
    )
    rollout = lab.begin(batch, now, created_by="controller", to_revision=made, decision_id=decision_id)
    drive(lab, rollout, now, until=P.COMPLETED)
    return rollout


class TestHome:
    def test_is_what_the_first_node_came_with(self, pool_lab: Lab) -> None:
        assert read_lineage(pool_lab.session, pool_lab.pool).home == own_settings(pool_lab)

    def test_is_what_a_person_wished_for_once_it_is_in_force(self, pool_lab: Lab) -> None:
        before = home_batch(pool_lab)
        rollout = pool_lab.begin(16)
        now = drive(pool_lab, rollout, NOW, until=P.CANARY)
        assert home_batch(pool_lab) == before
        drive(pool_lab, rollout, now, until=P.COMPLETED)
        assert home_batch(pool_lab) == 16

    def test_is_not_what_a_canary_had_to_take_back(self, pool_lab: Lab) -> None:
        before = home_batch(pool_lab)
        rollout = pool_lab.begin(16)
        now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        request(pool_lab.session, rollout.id, Verb.ABORT, "alice", now=now)
        drive(pool_lab, rollout, now, until=P.ROLLED_BACK)
        assert home_batch(pool_lab) == before

    def test_is_not_what_the_controller_chose(self, pool_lab: Lab) -> None:
        before = home_batch(pool_lab)
        by_controller(pool_lab, 16)
        assert (own_settings(pool_lab).max_batch_size, home_batch(pool_lab)) == (16, before)

    def test_is_what_people_went_back_to(self, pool_lab: Lab) -> None:
        first, second = pool_lab.begin(16), None
        now = drive(pool_lab, first, NOW, until=P.COMPLETED)
        second = pool_lab.begin(32, now)
        now = drive(pool_lab, second, now, until=P.COMPLETED)
        assert home_batch(pool_lab) == 32
        back = request(pool_lab.session, second.id, Verb.ROLLBACK, "alice", now=now, epoch=pool_lab.epoch)
        drive(pool_lab, back, now, until=P.COMPLETED)
        assert home_batch(pool_lab) == 16


class TestExperiments:
    def test_are_neither_home_nor_in_the_books_nor_another_arithmetic(self, pool_lab: Lab) -> None:
        before = read_lineage(pool_lab.session, pool_lab.pool)
        wanted = own_settings(pool_lab).replace(precision=Precision.INT4.value)
        node = pool_lab.nodes()[0]
        experiments.begin_experiment(
            pool_lab.session, node.id, wanted, lease_s=60, reason="", created_by="alice", epoch=pool_lab.epoch, now=NOW,
            heartbeat_timeout_s=TIMEOUT_S,
        )  # fmt: skip
        assert read_lineage(pool_lab.session, pool_lab.pool) == before

    def test_a_pool_that_then_gets_the_same_settings_has_a_revision_of_its_own(self, pool_lab: Lab) -> None:
        wanted = own_settings(pool_lab).replace(max_batch_size=16)
        node = pool_lab.nodes()[0]
        experiments.begin_experiment(
            pool_lab.session, node.id, wanted, lease_s=60, reason="", created_by="alice", epoch=pool_lab.epoch, now=NOW,
            heartbeat_timeout_s=TIMEOUT_S,
        )  # fmt: skip
        rollout = pool_lab.begin(16)
        assert not fleets.get_revision(pool_lab.session, rollout.to_revision_id).is_trial
        drive(pool_lab, rollout, NOW, until=P.COMPLETED)
        assert home_batch(pool_lab) == 16


class TestBarred:
    def test_what_a_person_rolled_back_is_not_begun_again_by_the_controller(self, pool_lab: Lab) -> None:
        done = by_controller(pool_lab, 16)
        now = NOW + timedelta(minutes=5)
        inputs = decision_inputs(NOW + timedelta(minutes=10))
        assert wanted_hash(pool_lab, done) not in barred_settings(replace(inputs, changes=changes_of(pool_lab)))
        pool_lab.obey(now)
        back = request(pool_lab.session, done.id, Verb.ROLLBACK, "alice", now=now, epoch=pool_lab.epoch)
        drive(pool_lab, back, now, until=P.COMPLETED)
        after = replace(inputs, changes=changes_of(pool_lab))
        assert wanted_hash(pool_lab, done) in barred_settings(after)
        assert wanted_hash(pool_lab, done) not in proven_settings(after)
        assert wanted_hash(pool_lab, back) in proven_settings(after)

    def test_what_failed_for_a_person_is_not_tried_by_the_controller_at_once(self, pool_lab: Lab) -> None:
        rollout = pool_lab.begin(16)
        now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
        request(pool_lab.session, rollout.id, Verb.ABORT, "alice", now=now)
        drive(pool_lab, rollout, now, until=P.ROLLED_BACK)
        inputs = replace(decision_inputs(NOW + timedelta(minutes=10)), changes=changes_of(pool_lab))
        assert barred_settings(inputs) == {wanted_hash(pool_lab, rollout)}


class TestKnown:
    def _known(self, pool_lab: Lab, now: datetime) -> list[int]:
        pool, session = pool_lab.pool, pool_lab.session
        facts = read_facts(
            pool, live_nodes(fleets.NodeReadings().of_pool(session, pool.id), now), read_lineage(session, pool), (Policy(), 0),
            now=now, around=Around.read(session, {pool.id: Policy()}, now), active_rollout=None, heartbeat_timeout_s=TIMEOUT_S,
        )  # fmt: skip
        return [settings.max_batch_size for settings in facts.known]

    def test_what_was_completed_on_the_whole_pool_is_weighed_again(self, pool_lab: Lab) -> None:
        now = NOW
        for batch in (17, 29):
            assert self._known(pool_lab, now) == []
            now = drive(pool_lab, pool_lab.begin(batch, now=now), now, until=P.COMPLETED)
            pool_lab.obey(now)
        assert self._known(pool_lab, now) == [17]
        assert self._known(pool_lab, now + timedelta(hours=2)) == []

    def test_what_was_taken_back_is_not(self, pool_lab: Lab) -> None:
        now = drive(pool_lab, pool_lab.begin(17), NOW, until=P.COMPLETED)
        pool_lab.obey(now)
        done = pool_lab.begin(29, now=now)
        now = drive(pool_lab, done, now, until=P.COMPLETED)
        pool_lab.obey(now)
        back = request(pool_lab.session, done.id, Verb.ROLLBACK, "alice", now=now, epoch=pool_lab.epoch)
        now = drive(pool_lab, back, now, until=P.COMPLETED)
        pool_lab.obey(now)
        assert self._known(pool_lab, now) == []
