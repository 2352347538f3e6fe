"""Whatever the holders do and however the clock runs: epochs only grow, and no two holders ever lead under the same one.

A slice in every run on SQLite; a thousand lives of fifty steps on SQLite and on PostgreSQL in `make test-all`.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete

from controlplane import schema
from controlplane.db import make_engine, session_scope
from controlplane.errors import Fenced
from controlplane.processes import lease
from controlplane.processes.models import ControllerLease
from tests.support.database import memory_database
from tests.support.postgres import fresh_database, postgres_server

HOLDERS = st.sampled_from(["a", "b", "c"])
LEASE_S = 10
NAME = "pools-00"


class LeaseMachine(RuleBasedStateMachine):
    """`believed` is what each holder was last told: a paused one goes on believing it. `engine`: the database under test."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        with session_scope(self.engine) as session:
            session.execute(delete(ControllerLease))
        self.now_ms = 1_700_000_000_000
        self.clock = pytest.MonkeyPatch()
        self.clock.setattr(lease, "database_now_ms", lambda _: self.now_ms)
        self.believed: dict[str, lease.Lease] = {}
        self.leader_of_epoch: dict[int, str] = {}
        self.highest = 0

    @rule(holder=HOLDERS)
    def acquire(self, holder: str) -> None:
        with session_scope(self.engine) as session:
            held = lease.acquire_or_renew(session, names=[NAME], holder=holder, lease_s=LEASE_S).get(NAME)
        if held is None:
            others = [other for other in self.believed.values() if other.holder != holder]
            assert any(other.expires_at_ms > self.now_ms for other in others), "refused though nobody's term runs"
            return
        assert self.leader_of_epoch.setdefault(held.epoch, holder) == holder
        assert held.epoch >= self.highest
        self.highest = held.epoch
        self.believed[holder] = held

    @rule(holder=HOLDERS)
    def write_as_leader(self, holder: str) -> None:
        """Only the latest epoch may write, whoever believes what."""
        if holder not in self.believed:
            return
        epoch = self.believed[holder].epoch
        try:
            with session_scope(self.engine) as session:
                lease.assert_holds(session, {NAME: epoch})
        except Fenced:
            assert epoch != self.highest
        else:
            assert epoch == self.highest

    @rule(holder=HOLDERS)
    def release(self, holder: str) -> None:
        with session_scope(self.engine) as session:
            released = lease.release(session, names=[NAME], holder=holder)
        if released:
            self.believed[holder] = lease.Lease(NAME, holder, self.believed[holder].epoch, 0)

    @rule(above=st.integers(0, 30))
    def raise_epoch(self, above: int) -> None:
        with session_scope(self.engine) as session:
            raised = lease.raise_epoch(session, NAME, above=above)
        assert raised > above
        assert raised >= self.highest
        self.highest = raised

    @rule(ms=st.integers(0, 2 * LEASE_S * 1000))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @invariant()
    def at_most_one_term_runs(self) -> None:
        running = [held for held in self.believed.values() if held.expires_at_ms > self.now_ms]
        assert len(running) <= 1

    def teardown(self) -> None:
        self.clock.undo()


def live(on: Engine, *, lives: int, steps: int) -> None:
    class Machine(LeaseMachine):
        engine = on

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=lives, stateful_step_count=steps, deadline=None, print_blob=True)
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
        live(engine, lives=40, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_lives_on_sqlite() -> None:
    with memory_database() as engine:
        live(engine, lives=1000, steps=50)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(3600)
def test_a_thousand_lives_on_postgresql(postgres_engine: Engine) -> None:
    live(postgres_engine, lives=1000, steps=50)
