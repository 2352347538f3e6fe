"""What becomes of a push whose node cannot be dialled; the network is replaced by its answer."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from controlplane.db import make_engine, session_scope
from controlplane.events import outbox
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.fleets.node_client import NodeUnreachable
from controlplane.settings import ControlPlaneSettings
from tests.support.database import sqlite_url
from tests.support.registrations import heartbeat_of
from tests.support.rollouts_in_sql import NOW, Lab, lab
from workers.context import WorkerContext
from workers.tasks import push as pushes


class SteadyClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        self.at += timedelta(seconds=20)  # past every pause between two tries
        return self.at


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A file, since nodes are asked in threads, and a database in memory is each thread's own."""
    engine = make_engine(sqlite_url(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def context(engine: Engine) -> WorkerContext:
    context = WorkerContext(ControlPlaneSettings(), name="worker@test", clock=SteadyClock())
    context._engines[os.getpid()] = engine
    return context


@pytest.fixture
def owed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """A push to a node that nobody can dial."""
    monkeypatch.setattr(pushes, "_ask", lambda *_: NodeUnreachable("no route to it"))
    with session_scope(engine) as session:
        made = lab(session)
        node = made.nodes()[0]
        settings = fleets.settings_of(fleets.current_revision(session, made.pool)).replace(max_batch_size=16)
        revision = fleets.create_revision(session, made.pool, settings, created_by="alice", reason="x", now=NOW)
        fleets.set_desired(session, node, revision, epoch=made.epoch, now=NOW)
        return session.scalars(select(OutboxItem.id).order_by(OutboxItem.id.desc()).limit(1)).one()


def fate(engine: Engine, item_id: int) -> tuple[bool, bool]:
    """(done, dead)"""
    with session_scope(engine, read_only=True) as session:
        item = session.get_one(OutboxItem, item_id)
        return item.done_at is not None, item.dead_at is not None


def fetch(engine: Engine) -> None:
    """The node asks, and reports what it got."""
    with session_scope(engine) as session:
        pool = fleets.list_pools(session)[0]
        Lab(session, pool, 1).obey(NOW)


def test_a_node_that_fetched_its_settings_itself_is_no_debt_any_more(
    engine: Engine, context: WorkerContext, owed: int
) -> None:
    pushes.push(context, [owed])
    assert fate(engine, owed) == (False, False)
    fetch(engine)
    pushes.push(context, [owed])
    assert fate(engine, owed) == (True, False)


def test_also_when_it_fetched_them_during_the_last_try(
    engine: Engine, context: WorkerContext, owed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(outbox.MAX_ATTEMPTS - 1):
        pushes.push(context, [owed])

    def fetched_meanwhile(*_: object) -> NodeUnreachable:
        fetch(engine)
        return NodeUnreachable("no route to it")

    monkeypatch.setattr(pushes, "_ask", fetched_meanwhile)
    pushes.push(context, [owed])
    assert fate(engine, owed) == (True, False)


def test_a_node_that_refused_by_itself_is_no_debt_either(engine: Engine, context: WorkerContext, owed: int) -> None:
    """It fetched them where nobody can dial it, and its heartbeat tells that it does not take them."""
    with session_scope(engine) as session:
        node = session.get_one(Node, session.get_one(OutboxItem, owed).payload["node_id"])
        told = heartbeat_of(node, rejected_generation=node.desired_generation, rejected_reason="no memory for it")
        fleets.heartbeat(session, node, told, now=NOW)
    pushes.push(context, [owed])
    assert fate(engine, owed) == (True, False)


def test_one_that_nobody_can_reach_is_given_up_and_told_of(engine: Engine, context: WorkerContext, owed: int) -> None:
    for _ in range(outbox.MAX_ATTEMPTS):
        pushes.push(context, [owed])
    assert fate(engine, owed) == (False, True)
    with session_scope(engine, read_only=True) as session:
        assert session.scalar(select(Event.id).where(Event.kind == "outbox.dead")) is not None


def test_a_removed_node_is_pushed_nothing(engine: Engine, context: WorkerContext, owed: int) -> None:
    with session_scope(engine) as session:
        node = session.get_one(OutboxItem, owed).payload["node_id"]
        fleets.remove_node(session, node, actor="alice", now=NOW, heartbeat_timeout_s=15, force=True)
    pushes.push(context, [owed])
    assert fate(engine, owed) == (True, False)
