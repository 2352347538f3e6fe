from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from tests.support.database import memory_database


@pytest.fixture
def engine() -> Iterator[Engine]:
    with memory_database() as engine:
        yield engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """One transaction around the test."""
    with session_scope(engine) as session:
        yield session
