"""Rollouts in SQL under whatever people, nodes, metrics and other leaders do: see tests/support/rollout_machine.py.

A slice in every run on SQLite; a thousand lives of fifty steps on SQLite and on PostgreSQL in `make test-all`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane import schema
from controlplane.db import make_engine
from tests.support.database import memory_database
from tests.support.postgres import fresh_database, postgres_server
from tests.support.rollout_machine import RolloutMachine

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]


def live(engine: Engine, *, lives: int, steps: int) -> None:
    @contextmanager
    def undone() -> Iterator[Session]:
        with Session(engine, expire_on_commit=False) as session:
            yield session
            session.rollback()

    class Machine(RolloutMachine):
        open_session = staticmethod(undone)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=lives, stateful_step_count=steps, deadline=None, suppress_health_check=QUIET, print_blob=True
        ),
    )


@pytest.fixture(scope="module")
def postgres_engine() -> Iterator[Engine]:
    with postgres_server() as server, fresh_database(server) as url:
        engine = make_engine(url)
        schema.upgrade(engine)
        yield engine
        engine.dispose()


def test_a_slice() -> None:
    with memory_database() as engine:
        live(engine, lives=5, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_lives_on_sqlite() -> None:
    with memory_database() as engine:
        live(engine, lives=1000, steps=50)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(7200)
def test_a_thousand_lives_on_postgresql(postgres_engine: Engine) -> None:
    live(postgres_engine, lives=1000, steps=50)
