"""Whatever controllers come, go, stand still and whenever they ask: a pool has one leader at most, and one again in the end.

A slice in every run on SQLite; a thousand lives of fifty steps on SQLite and on PostgreSQL in `make test-all`.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete

from controlplane import schema
from controlplane.db import make_engine, session_scope
from controlplane.errors import Fenced
from controlplane.processes import lease, shards
from controlplane.processes.models import ControllerLease, ControllerMember
from controlplane.processes.shards import NAMES, NOTHING, SHARDS, Terms
from tests.support.database import memory_database
from tests.support.postgres import fresh_database, postgres_server

HOLDERS = ("a", "b", "c", "d")
LEASE_S = 10
ANYBODY = st.sampled_from(HOLDERS)


class SharingMachine(RuleBasedStateMachine):
    """`believed` is what each controller was last told, and until when: one that stands still goes on believing it."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        with session_scope(self.engine) as session:
            session.execute(delete(ControllerLease))
            session.execute(delete(ControllerMember))
        self.now_ms = 1_700_000_000_000
        self.clock = pytest.MonkeyPatch()
        for room in (lease, shards):
            self.clock.setattr(room, "database_now_ms", lambda _: self.now_ms)
        self.believed: dict[str, tuple[Terms, int]] = {}
        self.newest = dict.fromkeys(NAMES, 0)
        self.leader_of: dict[tuple[str, int], str] = {}

    @rule(holder=ANYBODY)
    def ask(self, holder: str) -> None:
        with session_scope(self.engine) as session:
            share = shards.share_out(session, holder=holder, lease_s=LEASE_S)
        assert len(share.terms.epochs) <= share.quota
        for name, epoch in share.terms.epochs.items():
            assert self.leader_of.setdefault((name, epoch), holder) == holder, "two led under one epoch"
            assert epoch >= self.newest[name]
            self.newest[name] = epoch
        self.believed[holder] = (share.terms, self.now_ms + 1000 * LEASE_S)

    @rule(holder=ANYBODY, pool=st.integers(0, 99).map(str))
    def write(self, holder: str, pool: str) -> None:
        terms, _ = self.believed.get(holder, (NOTHING, 0))
        epoch = terms.of(pool)
        if epoch is None:
            return
        newest = self.newest[shards.lease_of(pool)]
        try:
            with session_scope(self.engine) as session:
                shards.assert_leads(session, pool, epoch)
        except Fenced:
            assert epoch != newest
        else:
            assert epoch == newest

    @rule(holder=ANYBODY)
    def leave(self, holder: str) -> None:
        with session_scope(self.engine) as session:
            shards.leave(session, holder)
        self.believed.pop(holder, None)

    @rule(pool=st.integers(0, 99).map(str), above=st.integers(0, 40))
    def a_node_is_ahead(self, pool: str, above: int) -> None:
        with session_scope(self.engine) as session:
            raised = lease.raise_epoch(session, shards.lease_of(pool), above=above)
        assert raised >= self.newest[shards.lease_of(pool)]
        self.newest[shards.lease_of(pool)] = raised

    @rule(ms=st.integers(0, 2 * LEASE_S * 1000))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule(there=st.sets(ANYBODY, min_size=1))
    def it_becomes_quiet(self, there: set[str]) -> None:
        """The others are gone; those who are there go on asking as they do, and lead everything between them, evenly."""
        for _ in range(4 * LEASE_S // 2):
            self.now_ms += 2000
            for holder in sorted(there):
                self.ask(holder)
        parts = {holder: set(self.believed[holder][0].epochs) for holder in there}
        assert set().union(*parts.values()) == set(NAMES)
        assert sum(map(len, parts.values())) == SHARDS
        assert max(map(len, parts.values())) - min(map(len, parts.values())) <= 1

    @invariant()
    def a_pool_has_one_leader_at_most(self) -> None:
        running = [
            name for terms, until_ms in self.believed.values() if until_ms > self.now_ms for name in terms.epochs
        ]
        assert len(running) == len(set(running))

    def teardown(self) -> None:
        self.clock.undo()


def live(on: Engine, *, lives: int, steps: int) -> None:
    class Machine(SharingMachine):
        engine = on

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=lives, stateful_step_count=steps, deadline=None, print_blob=True)
    )


def test_a_slice() -> None:
    with memory_database() as engine:
        live(engine, lives=15, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_lives_on_sqlite() -> None:
    with memory_database() as engine:
        live(engine, lives=1000, steps=50)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(7200)
def test_a_thousand_lives_on_postgresql() -> None:
    with postgres_server() as server, fresh_database(server) as url:
        engine = make_engine(url)
        schema.upgrade(engine)
        live(engine, lives=1000, steps=50)
        engine.dispose()
