"""The database: declarative base, column types, engine, and one transaction per unit of work.

SQLite serves one machine, PostgreSQL many. On SQLite a writing transaction takes the write lock at its begin
(`BEGIN IMMEDIATE`), since a deferred one that upgrades later fails at once instead of waiting for its turn.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import from_json, to_json
from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    CursorResult,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    Result,
    String,
    Table,
    TypeDecorator,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from controlplane.sealing import NO_KEYS, KeyRing, give_keys
from controlplane.settings import ControlPlaneSettings

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# A process that is stopped amid a transaction keeps its locks, a leader that of the lease: nobody could take over from it.
# Ours hold no network call, so one that is idle for so long has no living owner, and PostgreSQL ends it.
IDLE_IN_TRANSACTION_S = 10.0

# A connection that was in use a moment ago is taken to be there still; an older one is asked first, which costs a round trip.
ASKED_AFTER_S = 1.0

Json = JSON().with_variant(JSONB(), "postgresql")
# SQLite hands out row ids only for INTEGER PRIMARY KEY.
BigId = BigInteger().with_variant(Integer(), "sqlite")
Id = String(36)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, whatever the database keeps. Raises ValueError for a naive datetime."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: times in the database are aware UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a class attribute)
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[dict[str, Any]]: Json,
        list[str]: Json,
    }


def engine_of(settings: ControlPlaneSettings) -> Engine:
    """The one that the settings name, which seals and opens secrets with their keys. Raises Invalid for keys that are none."""
    return make_engine(settings.database_url, KeyRing.of(settings))


def make_engine(url: str, keys: KeyRing = NO_KEYS) -> Engine:
    """An engine for SQLite or PostgreSQL; bare `postgresql://` means psycopg 3. keys: what secrets are sealed with."""
    engine = _engine(url)
    give_keys(engine.dialect, keys)
    return engine


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return _postgresql_engine(parsed)
    engine = create_engine(
        parsed,
        connect_args={"timeout": 30, "check_same_thread": False},
        json_serializer=_json,
        json_deserializer=from_json,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # sqlite3: we say BEGIN ourselves, below
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    # Windows of metrics are most of what is read, and decisions most of what is written: the standard library's way with them
    # takes three times as long.
    engine = create_engine(url, pool_size=20, max_overflow=20, json_serializer=_json, json_deserializer=from_json)
    limit_ms = round(IDLE_IN_TRANSACTION_S * 1000)

    @event.listens_for(engine, "checkin")
    def _note(connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, entry: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        if time.monotonic() - entry.info.get("used_at", math.inf) <= ASKED_AFTER_S:
            return
        try:
            there = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            there = False
        if not there:
            raise InvalidatePoolError  # the pool opens another one, also in place of all that are as old

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.autocommit = True  # or the rollback at the connection's return would take the setting with it
        connection.execute(f"SET idle_in_transaction_session_timeout = {limit_ms}")
        connection.autocommit = False

    return engine


def _json(value: Any) -> str:
    try:
        return to_json(value).decode()
    except ValueError:
        # Text that is no Unicode, such as half a surrogate pair: whether it may stand is the database's to say.
        return json.dumps(value)


def for_reading(engine: Engine) -> Engine:
    """The same database, for sessions that only read: a snapshot that never waits for a writer."""
    options: dict[str, Any] = {"read_only": True}
    if engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    return engine.execution_options(**options)


@contextmanager
def session_scope(engine: Engine, *, read_only: bool = False) -> Iterator[Session]:
    """One unit of work: committed at the end, rolled back when anything is raised.

    read_only: a snapshot that never waits for a writer; on PostgreSQL a write in it is an error.
    No network call belongs inside: read, call, write.
    """
    with Session(for_reading(engine) if read_only else engine, expire_on_commit=False) as session, session.begin():
        yield session


def table_of(model: type[Base]) -> Table:
    """The table of a model, to insert rows as they are: many of them as objects take longer than the database does."""
    return cast("Table", model.__table__)


def insert_if_absent(session: Session, table: type[Base], **values: Any) -> bool:
    """Inserts a row unless one with the same unique key stands already, whoever put it there. Returns whether it was inserted.

    Unlike catching IntegrityError it leaves the transaction usable on PostgreSQL. Defaults of the table are filled in.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.flush()
    # What comes back says whether there was a row to insert; drivers differ in what they count.
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(*table.__table__.primary_key)
    return session.execute(statement).first() is not None


def insert_all_if_absent(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """`insert_if_absent` of many rows with the same columns, in one statement."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.flush()
    session.execute(insert(table).on_conflict_do_nothing(), [dict(row) for row in rows])


def rows_matched(result: Result[Any]) -> int:
    """How many rows an UPDATE or DELETE touched (of an INSERT drivers do not always know)."""
    return int(cast("CursorResult[Any]", result).rowcount)


def database_now_ms(session: Session) -> int:
    """Milliseconds since 1970 by the clock of the database, the only clock that all processes share."""
    if session.get_bind().dialect.name == "postgresql":
        statement = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    else:
        statement = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    return int(session.execute(text(statement)).scalar_one())
