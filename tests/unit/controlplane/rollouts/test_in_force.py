"""What a pool ran under, told from its rollouts: what was only tried, or waits, is told from what came into force."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.decisions.quality_books import Stretch
from controlplane.fleets import service as fleets
from controlplane.rollouts.in_force import stretches
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.requests import request
from inference_node.contract.settings import EngineSettings
from tests.support.rollouts_in_sql import NOW, Lab, drive, lab

P = RolloutPhase
DAY = timedelta(days=1)


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def batches(found: list[Stretch]) -> list[tuple[int, ...]]:
    return [tuple(settings.max_batch_size for settings in stretch.settings) for stretch in found]


def first(pool_lab: Lab) -> int:
    assert pool_lab.pool.current_revision_id is not None
    revision = fleets.get_revision(pool_lab.session, pool_lab.pool.current_revision_id)
    return EngineSettings.model_validate(fleets.settings_of(revision)).max_batch_size


def told(pool_lab: Lab) -> list[Stretch]:
    return stretches(pool_lab.session, pool_lab.pool, NOW - DAY)


def test_a_pool_that_was_never_changed(pool_lab: Lab) -> None:
    (only,) = told(pool_lab)
    assert batches([only]) == [(first(pool_lab),)]
    assert only.since == pool_lab.pool.created_at


def test_one_that_was_completed(pool_lab: Lab) -> None:
    own = first(pool_lab)
    rollout = pool_lab.begin(16)
    ended = drive(pool_lab, rollout, NOW, until=P.COMPLETED)
    found = told(pool_lab)
    assert batches(found) == [(16,), (own, 16), (own,)]
    assert found[0].since == rollout.ended_at
    assert NOW <= found[1].since < found[0].since <= ended


def test_one_that_was_taken_back_left_what_was_before(pool_lab: Lab) -> None:
    """As a canary of better answers that a surge took back: the pool never gave them."""
    own = first(pool_lab)
    rollout = pool_lab.begin(16)
    now = drive(pool_lab, rollout, NOW, until=P.ANALYZING)
    assert batches(told(pool_lab)) == [(own, 16), (own,)]
    since, later = told(pool_lab)[0].since, now + timedelta(seconds=5)
    request(pool_lab.session, rollout.id, Verb.ABORT, "alice", now=later)
    drive(pool_lab, rollout, later, until=P.ROLLED_BACK)
    found = told(pool_lab)
    assert batches(found) == [(own,), (own, 16), (own,)]
    # The node was told again to go back; it had the settings from before that on.
    assert since <= found[1].since <= now < later <= found[0].since


def test_one_that_waits_changed_nothing(pool_lab: Lab) -> None:
    own = first(pool_lab)
    pool_lab.begin(16)
    assert batches(told(pool_lab)) == [(own,)]


def test_for_how_long_it_waited_does_not_matter(pool_lab: Lab) -> None:
    """For people, for its time, or for a freeze to end."""
    rollout = pool_lab.begin(16)
    drive(pool_lab, rollout, NOW, until=P.COMPLETED)
    row = pool_lab.session.get_one(Rollout, rollout.id)
    row.created_at = NOW - timedelta(hours=8)
    pool_lab.session.flush()
    assert told(pool_lab)[1].since >= NOW


def test_what_ended_before_is_not_read(pool_lab: Lab) -> None:
    rollout = pool_lab.begin(16)
    now = drive(pool_lab, rollout, NOW, until=P.COMPLETED)
    assert batches(stretches(pool_lab.session, pool_lab.pool, now + DAY)) == [(16,)]


def test_one_that_ended_somewhere_between_counts_as_both(pool_lab: Lab) -> None:
    own = first(pool_lab)
    rollout = pool_lab.begin(16)
    drive(pool_lab, rollout, NOW, until=P.COMPLETED)
    row = pool_lab.session.get_one(Rollout, rollout.id)
    row.phase = P.ROLLBACK_FAILED.value
    pool_lab.session.flush()
    assert batches(told(pool_lab))[0] == (own, 16)
