"""The way up and down, on both databases."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, MetaData, Table, inspect, text

from controlplane import schema
from controlplane.db import make_engine
from controlplane.models import metadata

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    engine = make_engine(empty_database_url)
    yield engine
    engine.dispose()


def test_up_gives_the_tables_of_the_code_and_down_takes_all_away(empty: Engine) -> None:
    assert schema.current(empty) is None
    assert schema.upgrade(empty) == schema.Migrated(None, schema.head())
    assert schema.differences(empty) == []
    assert set(metadata.tables) <= set(inspect(empty).get_table_names())
    schema.downgrade(empty, "base")
    assert set(inspect(empty).get_table_names()) == {"alembic_version"}
    schema.upgrade(empty)
    assert schema.differences(empty) == []


def test_up_when_there_already_changes_nothing(empty: Engine) -> None:
    schema.upgrade(empty)
    assert schema.upgrade(empty) == schema.Migrated(schema.head(), schema.head())


def test_an_older_database_says_how_to_migrate_it(empty: Engine) -> None:
    with pytest.raises(schema.SchemaOlder, match=r"is empty.*trimtab migrate"):
        schema.check(empty)
    schema.upgrade(empty)
    schema.check(empty)


def test_a_newer_database_is_left_alone(empty: Engine) -> None:
    schema.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'fromthefuture'"))
    with pytest.raises(schema.SchemaNewer, match=r"fromthefuture.*newer\s+Trimtab"):
        schema.check(empty)
    with pytest.raises(schema.SchemaNewer):
        schema.upgrade(empty)
    assert schema.current(empty) == "fromthefuture"


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    outcomes: list[schema.Migrated] = []
    start = threading.Barrier(4)

    def migrate() -> None:
        engine = make_engine(empty_database_url)
        start.wait()
        try:
            outcomes.append(schema.upgrade(engine))
        finally:
            engine.dispose()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(o.before or "" for o in outcomes) == ["", *[schema.head()] * 3], outcomes


def _row(engine: Engine, table: str, **values: object) -> None:
    """Inserts it, with something in each other column that must not be empty."""
    columns = {column["name"]: column for column in inspect(engine).get_columns(table)}
    for name, column in columns.items():
        if name not in values and not column["nullable"] and column["default"] is None:
            kind = column["type"].python_type
            values[name] = {datetime: AT, int: 1, str: "x", bool: False, float: 0.0}.get(kind, {})
    found = Table(table, MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.execute(found.insert().values(**values))


def test_home_is_what_people_went_back_to_and_not_what_they_left(empty: Engine) -> None:
    schema.upgrade(empty)
    schema.downgrade(empty, "4d83e0b7f1a6")
    _row(empty, "fleets", id="f", name="f")
    for pool in ("went_back", "untouched"):
        _row(empty, "pools", id=pool, fleet_id="f", name=pool, current_revision_id=None)
        for number in (1, 2, 3):
            author = "controller" if number == 3 else "alice"
            _row(
                empty, "settings_revisions", id=f"{pool}{number}", pool_id=pool, number=number, created_by=author,
                content_hash=str(number),
            )  # fmt: skip
    _row(empty, "decisions", id="d", pool_id="went_back", rollout_id=None)
    changes = [("went_back2", "alice", None), ("went_back1", "alice", None), ("went_back3", "controller", "d")]
    for place, (to, by, decision) in enumerate(changes):
        _row(
            empty, "rollouts", id=f"r{place}", pool_id="went_back", active_pool_id=None, from_revision_id="went_back1",
            to_revision_id=to, phase="COMPLETED", created_by=by, decision_id=decision, ended_at=AT + timedelta(minutes=place),
        )  # fmt: skip
    schema.upgrade(empty)
    with empty.connect() as connection:
        homes = connection.execute(text("SELECT id, home_revision_id FROM pools ORDER BY id")).all()
        trials = connection.execute(text("SELECT count(*) FROM settings_revisions WHERE is_trial")).scalar()
    assert [tuple(row) for row in homes] == [("untouched", "untouched1"), ("went_back", "went_back1")]
    assert trials == 0
