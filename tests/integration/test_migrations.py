"""The way up and down, on both databases."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, inspect, text

from controlplane import schema
from controlplane.db import make_engine
from controlplane.models import metadata


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
