"""Connections that PostgreSQL has closed meanwhile: who takes one from the pool does not meet the corpse."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from controlplane import db
from controlplane.db import session_scope
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.postgres


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    with fresh_database(postgres_url) as url:
        made = db.make_engine(url)
        yield made
        made.dispose()


def _process(engine: Engine) -> int:
    with session_scope(engine, read_only=True) as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def _end_all_others(engine: Engine) -> None:
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    end = text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    other = db.make_engine(engine.url.render_as_string(hide_password=False))
    with other.connect() as connection:
        connection.execute(end)
    other.dispose()


def test_one_that_was_closed_while_nobody_used_it_is_replaced(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "ASKED_AFTER_S", 0.0)
    first = _process(engine)
    _end_all_others(engine)
    assert _process(engine) not in (0, first)


def test_after_one_failure_everybody_gets_a_fresh_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "ASKED_AFTER_S", 3600.0)
    before = _process(engine)
    _end_all_others(engine)
    with pytest.raises(OperationalError):
        _process(engine)
    assert _process(engine) not in (0, before)


def test_one_that_was_in_use_a_moment_ago_is_not_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ping(dialect: object, connection: object) -> bool:
        asked.append(connection)
        return True

    monkeypatch.setattr(type(engine.dialect), "do_ping", ping)
    monkeypatch.setattr(db, "ASKED_AFTER_S", 3600.0)
    _process(engine)
    assert not asked
    monkeypatch.setattr(db, "ASKED_AFTER_S", 0.0)
    _process(engine)
    assert len(asked) == 1
