"""The version of the database: where it stands, whether it fits this code, and the way up or down.

`python -m controlplane.schema revision "what changes"` writes a new migration from the difference to the tables in code.
"""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controlplane.db import make_engine
from controlplane.errors import ControlPlaneError, Unavailable
from controlplane.models import metadata

# Beside the package: in the source tree as in an installed wheel.
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_ADVISORY_LOCK = 0x7472696D746162  # "trimtab": one migration at a time on PostgreSQL


class SchemaOlder(Unavailable):
    title = "The database must be migrated"


class DatabaseUnreachable(Unavailable):
    title = "The database does not answer"


class SchemaNewer(ControlPlaneError):
    title = "The database is newer than this program"


@dataclass(frozen=True, slots=True)
class Migrated:
    """Revisions before and after; equal when there was nothing to do, `before` None for an empty database."""

    before: str | None
    after: str


@cache
def head() -> str:
    """The revision that this code needs."""
    revision = _scripts().get_current_head()
    assert revision is not None
    return revision


def current(engine: Engine) -> str | None:
    """The revision that the database is at, None for one without our tables. Raises DatabaseUnreachable."""
    try:
        with engine.execution_options(read_only=True).connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        raise DatabaseUnreachable(
            f"the database at {engine.url.render_as_string(hide_password=True)} does not answer: "
            f"{str(error.orig).strip().splitlines()[0]}. Check that it runs and that CONTROLPLANE_DATABASE_URL names it"
        ) from error


def check(engine: Engine) -> None:
    """Raises SchemaNewer, SchemaOlder or DatabaseUnreachable unless the database is exactly what this code needs."""
    _compare(current(engine))


def upgrade(engine: Engine) -> Migrated:
    """Brings the database to `head()`, in one transaction. Raises SchemaNewer and changes nothing when it is beyond.

    Safe to call from several processes at once: they queue for a lock, and the later ones find nothing to do.
    """
    with engine.begin() as connection:
        _lock(connection)
        before = MigrationContext.configure(connection).get_current_revision()
        _refuse_newer(before)
        command.upgrade(_config(connection), "head")
    return Migrated(before, head())


def downgrade(engine: Engine, revision: str) -> None:
    """Brings the database back to an earlier revision, or to nothing with "base". Data of dropped tables is lost."""
    with engine.begin() as connection:
        _lock(connection)
        command.downgrade(_config(connection), revision)


def differences(engine: Engine) -> list[object]:
    """How the tables in the database differ from those in code; empty when the migrations are complete."""
    with engine.execution_options(read_only=True).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def _compare(revision: str | None) -> None:
    _refuse_newer(revision)
    if revision != head():
        where = "is empty" if revision is None else f"is at revision {revision}"
        raise SchemaOlder(
            f"the database {where}, this program needs {head()}: run `trimtab migrate` (`trimtab up` does it by itself)"
        )


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision not in _known():
        raise SchemaNewer(
            f"the database is at revision {revision}, which this program does not know (it knows up to {head()}): a newer "
            "Trimtab has migrated it. Run that version, or restore the database from before the migration"
        )


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(None))


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def _write_revision(message: str) -> None:
    """Compares against a database made by the migrations so far, so that no developer's database matters."""
    with TemporaryDirectory() as folder:
        engine = make_engine(f"sqlite:///{folder}/compare.sqlite3")
        if _scripts().get_current_head() is not None:
            upgrade(engine)
        with engine.begin() as connection:
            command.revision(_config(connection), message, autogenerate=True)
        engine.dispose()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["revision", message]:
            _write_revision(message)
        case _:
            raise SystemExit('usage: python -m controlplane.schema revision "what changes"')
