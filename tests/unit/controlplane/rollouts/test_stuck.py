from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Fenced
from controlplane.events.models import Event
from controlplane.processes.shards import Terms
from controlplane.rollouts import stuck
from controlplane.rollouts.phases import ACTIVE, RolloutPhase
from tests.support.arms import plan
from tests.support.rollouts_in_sql import NOW, Lab, lab


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def told(lab: Lab) -> list[str]:
    return list(lab.session.scalars(select(Event.message).where(Event.kind == "rollout.stuck")))


def test_one_that_nothing_moves_is_told_of_once(pool_lab: Lab) -> None:
    pool_lab.begin()
    late = NOW + timedelta(hours=1)
    for _ in range(2):
        found = stuck.untold(pool_lab.session, stuck.find_stuck(pool_lab.session, late))
        stuck.tell(pool_lab.session, found, terms=pool_lab.terms, now=late)
    assert len(told(pool_lab)) == 1
    assert "VALIDATING" in told(pool_lab)[0]


def test_one_within_its_time_is_not(pool_lab: Lab) -> None:
    pool_lab.begin()
    assert stuck.find_stuck(pool_lab.session, NOW + timedelta(seconds=30)) == []


def test_one_that_waits_for_its_start_is_not(pool_lab: Lab) -> None:
    rollout = pool_lab.begin(not_before=NOW + timedelta(days=20))
    pool_lab.step(rollout)
    assert stuck.find_stuck(pool_lab.session, NOW + timedelta(days=19)) == []


def test_a_deposed_leader_tells_nothing(pool_lab: Lab) -> None:
    pool_lab.begin()
    late = NOW + timedelta(hours=1)
    with pytest.raises(Fenced):
        stuck.tell(
            pool_lab.session,
            stuck.find_stuck(pool_lab.session, late),
            terms=Terms.everywhere(pool_lab.epoch - 1),
            now=late,
        )


def test_every_phase_has_a_limit_beyond_the_plans_own() -> None:
    for phase in ACTIVE:
        assert stuck.limit_s(phase, plan()) >= stuck.SLACK_S
    assert stuck.limit_s(RolloutPhase.PAUSED, plan(pause_limit_s=500)) > 500
