"""Windows in SQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.telemetry.observation import Observation, Quality
from controlplane.telemetry.service import latest, recent, save_observations
from tests.support.database import memory_database

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_database() as engine, session_scope(engine) as opened:
        yield opened


def window(index: int, load: float = 1.0) -> Observation:
    return Observation(AT + timedelta(seconds=5 * index), 5.0, Quality.OK, offered_rps=load, nodes_up=1)


class TestSaveObservations:
    def test_reads_back_what_was_saved_oldest_first(self, session: Session) -> None:
        for index in range(3):
            save_observations(session, "p", window(index), {"n": window(index, 2.0)})
        assert recent(session, "p", AT - timedelta(seconds=1)) == [window(0), window(1), window(2)]
        assert recent(session, "n", AT) == [window(1, 2.0), window(2, 2.0)]

    def test_a_window_is_saved_once(self, session: Session) -> None:
        save_observations(session, "p", window(0), {})
        save_observations(session, "p", window(0, 9.0), {})
        assert recent(session, "p", AT - timedelta(seconds=1)) == [window(0)]


class TestRecent:
    def test_limit_keeps_the_newest(self, session: Session) -> None:
        for index in range(4):
            save_observations(session, "p", window(index), {})
        assert recent(session, "p", AT, limit=2) == [window(2), window(3)]
        assert recent(session, "p", AT, until=window(2).window_end) == [window(1), window(2)]


class TestLatest:
    def test_is_none_of_a_stranger(self, session: Session) -> None:
        assert latest(session, "nobody") is None

    def test_is_the_newest(self, session: Session) -> None:
        save_observations(session, "p", window(1), {})
        save_observations(session, "p", window(0), {})
        assert latest(session, "p") == window(1)
