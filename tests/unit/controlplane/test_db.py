from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from controlplane.db import Base, database_now_ms, make_engine, session_scope
from controlplane.fleets.models import Fleet


class TestSessionScope:
    def test_rolls_back_when_anything_is_raised(self, tmp_path: Path) -> None:
        engine = make_engine(f"sqlite:///{tmp_path}/a.sqlite3")
        Base.metadata.create_all(engine)
        with pytest.raises(RuntimeError), session_scope(engine) as session:  # noqa: PT012 (the scope is what is tested)
            session.add(Fleet(name="lost", created_at=datetime.now(UTC)))
            session.flush()
            raise RuntimeError
        with session_scope(engine, read_only=True) as session:
            assert session.scalars(select(Fleet)).all() == []
        engine.dispose()

    def test_a_reader_does_not_wait_for_a_writer(self, tmp_path: Path) -> None:
        engine = make_engine(f"sqlite:///{tmp_path}/a.sqlite3")
        Base.metadata.create_all(engine)
        with session_scope(engine) as writer:
            writer.add(Fleet(name="unseen", created_at=datetime.now(UTC)))
            writer.flush()
            with session_scope(engine, read_only=True) as reader:
                assert reader.scalars(select(Fleet)).all() == []
        engine.dispose()


class TestUtcDateTime:
    def test_returns_aware_utc_whatever_zone_went_in(self, tmp_path: Path) -> None:
        engine = make_engine(f"sqlite:///{tmp_path}/a.sqlite3")
        Base.metadata.create_all(engine)
        noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        with session_scope(engine) as session:
            session.add(Fleet(name="a", created_at=noon))
        with session_scope(engine, read_only=True) as session:
            kept = session.scalars(select(Fleet)).one().created_at
        assert kept == noon
        assert kept.utcoffset() == timedelta(0)
        engine.dispose()

    def test_refuses_a_naive_time(self, tmp_path: Path) -> None:
        engine = make_engine(f"sqlite:///{tmp_path}/a.sqlite3")
        Base.metadata.create_all(engine)
        with pytest.raises(StatementError, match="naive datetime"), session_scope(engine) as session:  # noqa: PT012
            session.add(Fleet(name="a", created_at=datetime(2026, 3, 1)))
            session.flush()
        engine.dispose()


def test_the_databases_clock_is_unix_milliseconds(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/a.sqlite3")
    with session_scope(engine) as session:
        assert abs(database_now_ms(session) - datetime.now(UTC).timestamp() * 1000) < 5000
    engine.dispose()
