from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.fleets.intake import GRACE_S, read_intake
from controlplane.processes import service as processes
from tests.support.rollouts_in_sql import NOW, Lab, lab

TIMEOUT_S = 15.0


@pytest.fixture
def pool_lab(session: Session) -> Lab:
    return lab(session)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def api(lab: Lab, *, started: float, at: float, first: float | None = None) -> None:
    """Signs of life every five seconds up to `at`, from `first` on (from the start, as far as that matters)."""
    beat = max(started, -120.0) if first is None else first
    while beat < at:
        _beat(lab, started, beat)
        beat += 5
    _beat(lab, started, at)


def _beat(lab: Lab, started: float, at: float) -> None:
    processes.beat(lab.session, name=f"api@{started}", kind="api", now=after(at), started_at=after(started))


def is_lost(lab: Lab) -> bool:
    return read_intake(lab.session).is_lost(lab.nodes()[0], TIMEOUT_S)


def test_a_node_is_lost_while_another_is_heard(pool_lab: Lab) -> None:
    pool_lab.beat(pool_lab.nodes()[1], after(20))
    assert is_lost(pool_lab)


def test_a_node_is_lost_while_the_api_lives(pool_lab: Lab) -> None:
    api(pool_lab, started=-3600, at=20)
    assert is_lost(pool_lab)


def test_nobody_is_lost_while_nobody_listens(pool_lab: Lab) -> None:
    """All nodes fell silent together and the API shows no life: that is our own fault, not theirs."""
    api(pool_lab, started=-3600, at=5)
    assert not is_lost(pool_lab)


def test_after_an_outage_nodes_have_time_to_come_back(pool_lab: Lab) -> None:
    api(pool_lab, started=-3600, at=0)
    api(pool_lab, started=60, at=65)
    pool_lab.beat(pool_lab.nodes()[1], after(62))
    assert not is_lost(pool_lab)
    api(pool_lab, started=60, at=60 + GRACE_S + 1)
    assert is_lost(pool_lab)


def test_a_node_that_was_heard_is_not_lost(pool_lab: Lab) -> None:
    api(pool_lab, started=-3600, at=14)
    assert not is_lost(pool_lab)


@pytest.mark.parametrize("outage_s", [8, 20, 300])
def test_after_an_outage_of_the_database_nodes_have_time_to_come_back(pool_lab: Lab, outage_s: float) -> None:
    """The API lived all the time and could not write down what it heard: its own signs of life have the same gap."""
    api(pool_lab, started=-3600, at=0)
    back = outage_s + 1.0
    api(pool_lab, started=-3600, first=back, at=back + GRACE_S - 1)  # agents ask again after at most 15 s
    assert not is_lost(pool_lab)
    api(pool_lab, started=-3600, first=back + GRACE_S, at=back + GRACE_S + 5)
    assert is_lost(pool_lab)


def test_a_node_that_is_heard_before_the_api_says_so_makes_no_other_lost(pool_lab: Lab) -> None:
    """After an outage of the database a heartbeat may be written up to five seconds before the API's own sign of life."""
    api(pool_lab, started=-3600, at=0)
    pool_lab.beat(pool_lab.nodes()[1], after(31))
    assert not is_lost(pool_lab)
    api(pool_lab, started=-3600, first=33, at=33)
    assert not is_lost(pool_lab)
    pool_lab.beat(pool_lab.nodes()[1], after(33 + GRACE_S + 1))
    api(pool_lab, started=-3600, first=38, at=33 + GRACE_S + 1)
    assert is_lost(pool_lab)
