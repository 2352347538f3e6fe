"""Two controllers of one database, each in threads of its own as in its process: they share the pools, and each pool has one."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, select, text

from controlplane import schema
from controlplane.clock import SystemClock
from controlplane.controller import Controller
from controlplane.db import make_engine, session_scope
from controlplane.decisions.models import DecisionRecord
from controlplane.fleets import service as fleets
from controlplane.processes import shards
from controlplane.settings import ControlPlaneSettings
from controlplane.system import leaders_out
from tests.support.registrations import registration

WITHIN_S = 60.0
SETTINGS = ControlPlaneSettings(
    tick_s=0.5, reconcile_s=0.2, lease_s=1.5, prometheus_url="http://127.0.0.1:9", prometheus_timeout_s=0.5
)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {WITHIN_S:.0f} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def pools(engine: Engine) -> list[str]:
    """In more shards than one of two controllers leads, so that each has some: ids, and with them shards, are chance."""
    with session_scope(engine) as session:
        now, ids = SystemClock().now(), list[str]()
        while len({shards.shard_of(pool_id) for pool_id in ids}) <= shards.SHARDS // 2:
            name = f"{len(ids)}"
            fleets.register_node(session, registration(f"node-{name}", pool=f"pool-{name}"), now=now)
            ids = [pool.id for pool in fleets.list_pools(session)]
        return ids


@contextlib.contextmanager
def running(engine: Engine) -> Iterator[Controller]:
    controller = Controller(SETTINGS, engine, SystemClock())
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def newest_epochs(engine: Engine) -> dict[str, int]:
    """Under which the last decision of each pool was made."""
    with session_scope(engine, read_only=True) as session:
        rows = session.execute(select(DecisionRecord.pool_id, DecisionRecord.epoch).order_by(DecisionRecord.last_at))
        return {row.pool_id: row.epoch for row in rows}


def led_by(controller: Controller, pools: list[str]) -> dict[str, int]:
    """Those of the pools that it leads, and under which epoch."""
    return {pool_id: epoch for pool_id in pools if (epoch := controller.leadership.terms.of(pool_id)) is not None}


def decides(controller: Controller, engine: Engine, pools: list[str]) -> bool:
    """Whether the last decision of every pool that it leads, of which there are some, is its own. Asked anew each time: on a
    full machine a term may lapse and be taken again, under a higher epoch."""
    led = led_by(controller, pools)
    return bool(led) and led.items() <= newest_epochs(engine).items()


def test_they_share_them_and_one_takes_what_the_other_leaves(engine: Engine, pools: list[str]) -> None:
    with running(engine) as first:
        until(lambda: newest_epochs(engine).keys() == set(pools), "a decision of every pool by the first")
        with running(engine) as second:
            half = shards.SHARDS // 2
            until(
                lambda: len(first.leadership.terms.epochs) == len(second.leadership.terms.epochs) == half, "two halves"
            )
            with session_scope(engine, read_only=True) as session:
                leaders, unled = leaders_out(session)
            assert [sum(leader.pools for leader in leaders), unled, len(leaders)] == [len(pools), 0, 2]
            until(lambda: decides(second, engine, pools), "decisions of the second under its epoch")
            theirs = led_by(second, pools)
        until(lambda: len(first.leadership.terms.epochs) == shards.SHARDS, "the first leads all again")
        until(lambda: decides(first, engine, list(theirs)), "decisions of the first under its new epoch")
        again = led_by(first, list(theirs))
        assert again.keys() == theirs.keys()
        assert all(again[pool_id] > theirs[pool_id] for pool_id in theirs)
        assert not [about for about in first.detail()["troubles"] if about.startswith("loop")]


def test_the_epoch_of_the_time_with_one_lease_goes_on(empty_database_url: str) -> None:
    """Nodes refuse what comes under a lower epoch than they have seen; and a controller of before leads no more."""
    engine = make_engine(empty_database_url)
    schema.upgrade(engine)
    schema.downgrade(engine, "f9c1a6d8e302")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO controller_leases VALUES ('controller', 'old', 41, 9999999999999)"))
    schema.upgrade(engine)
    with session_scope(engine) as session:
        terms = shards.share_out(session, holder="new", lease_s=10).terms
        old = session.execute(
            text("SELECT epoch, expires_at_ms FROM controller_leases WHERE name = 'controller'")
        ).one()
    assert set(terms.epochs.values()) == {43}
    assert old.epoch == 42
    assert old.expires_at_ms > 10**14
    schema.downgrade(engine, "f9c1a6d8e302")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name, epoch FROM controller_leases")).all() == [("controller", 43)]
    engine.dispose()
