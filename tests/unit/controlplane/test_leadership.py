import pytest
from sqlalchemy import Engine, text

from controlplane.db import session_scope
from controlplane.errors import Fenced
from controlplane.leadership import Leadership
from controlplane.processes import lease, shards

LEASE_S = 15.0
POOL = "a pool"


class Watch:
    """A monotonic clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def leadership(engine: Engine, holder: str, watch: Watch) -> Leadership:
    return Leadership(engine, holder, LEASE_S, monotonic=watch)


def epoch_of(leadership: Leadership) -> int | None:
    return leadership.terms.of(POOL)


def expire(engine: Engine) -> None:
    with session_scope(engine) as session:
        session.execute(text("UPDATE controller_leases SET expires_at_ms = 1"))
        session.execute(text("DELETE FROM controller_members"))


class TestLeadership:
    def test_begins_with_the_first_epoch(self, engine: Engine) -> None:
        mine = leadership(engine, "a", Watch())
        assert epoch_of(mine) is None
        mine.renew()
        assert epoch_of(mine) == 1

    def test_waits_while_another_leads(self, engine: Engine) -> None:
        leadership(engine, "a", Watch()).renew()
        other = leadership(engine, "b", Watch())
        other.renew()
        assert epoch_of(other) is None

    def test_takes_over_with_a_higher_epoch(self, engine: Engine) -> None:
        leadership(engine, "a", Watch()).renew()
        expire(engine)
        other = leadership(engine, "b", Watch())
        other.renew()
        assert epoch_of(other) == 2

    def test_ends_by_our_own_clock_when_it_was_not_renewed(self, engine: Engine) -> None:
        """A process that was paused must not act before it has asked again."""
        watch = Watch()
        mine = leadership(engine, "a", watch)
        mine.renew()
        watch.at += LEASE_S
        assert epoch_of(mine) is None
        mine.renew()
        assert epoch_of(mine) is not None

    def test_ends_at_once_when_a_write_was_fenced(self, engine: Engine) -> None:
        mine = leadership(engine, "a", Watch())
        mine.renew()
        with session_scope(engine) as session:
            lease.raise_epoch(session, shards.lease_of(POOL), above=1)
        with session_scope(engine) as session, pytest.raises(Fenced) as fenced:
            shards.assert_leads(session, POOL, 1)
        mine.lose(fenced.value)
        assert epoch_of(mine) is None
        assert len(mine.terms.epochs) == shards.SHARDS - 1  # the other pools are still ours
        mine.renew()
        assert epoch_of(mine) == 2

    def test_is_handed_back_at_the_end(self, engine: Engine) -> None:
        mine, other = leadership(engine, "a", Watch()), leadership(engine, "b", Watch())
        mine.renew()
        mine.stop()
        other.renew()
        assert (epoch_of(mine), epoch_of(other)) == (None, 2)

    def test_without_a_database_nobody_leads(self, engine: Engine) -> None:
        watch = Watch()
        mine = leadership(engine, "a", watch)
        mine.renew()
        with session_scope(engine) as session:
            session.execute(text("DROP TABLE controller_leases"))
        watch.at += LEASE_S
        mine.renew()
        assert epoch_of(mine) is None


def test_the_epoch_is_the_one_that_writes_are_fenced_by(engine: Engine) -> None:
    mine = leadership(engine, "a", Watch())
    mine.renew()
    epoch = epoch_of(mine)
    assert epoch is not None
    with session_scope(engine) as session:
        shards.assert_leads(session, POOL, epoch)
