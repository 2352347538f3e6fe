"""Databases for tests: one in memory with the tables of the code, one on disk made by the migrations."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import Engine

from controlplane import schema
from controlplane.db import make_engine
from controlplane.models import metadata


@contextmanager
def memory_database() -> Iterator[Engine]:
    """Milliseconds; for one thread."""
    engine = make_engine("sqlite://")
    metadata.create_all(engine)
    try:
        yield engine
    finally:
        engine.dispose()


@cache
def _template() -> Path:
    """A migrated database file, made once per test process."""
    path = Path(mkdtemp(prefix="trimtab-test-")) / "template.sqlite3"
    engine = make_engine(f"sqlite:///{path}")
    schema.upgrade(engine)
    engine.dispose()  # the last connection puts everything from the log into the file
    return path


def sqlite_url(folder: Path) -> str:
    """The URL of a fresh migrated SQLite database in `folder`."""
    path = folder / "trimtab.sqlite3"
    shutil.copyfile(_template(), path)
    return f"sqlite:///{path}"
