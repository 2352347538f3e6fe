"""What in a real fleet are other processes' doings: nodes that are heard of, and the page that Prometheus scrapes.

Each is a process of its own, so that it takes no turns of the interpreter from what is timed.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import select, update

from controlplane import models as models
from controlplane.db import make_engine, session_scope
from controlplane.fleets.models import Node
from trimtab.errors import CommandError
from trimtab.fleet_bench.exposition import Exposition, Told

BEAT_S, BEATS_AT_ONCE = 4.0, 50
_START_S = 60.0


@contextmanager
def beating_nodes(database_url: str) -> Iterator[None]:
    """All nodes are heard of: what is measured is the way of a change, not the intake of heartbeats."""
    with _beside(_keep_beating, database_url):
        yield


@contextmanager
def page_of(nodes: Sequence[Told]) -> Iterator[tuple[str, int]]:
    """Host and port of the nodes' metrics, and of how many series they tell."""
    with _beside(_serve, list(nodes)) as said:
        address, series = said
        yield address, series


@contextmanager
def _beside(work: Callable[[Connection, Any], None], given: Any) -> Iterator[Any]:
    """What it says first, while it goes on."""
    what = work.__name__.strip("_")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, given), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_S):
            raise CommandError(
                f"the process of {what!r} has said nothing for {_START_S:g} s: is the machine busy with something else?"
            )
        try:
            said = ours.recv()
        except EOFError:
            process.join()
            raise CommandError(
                f"the process of {what!r} ended with {process.exitcode}: what it printed says why"
            ) from None
        yield said
    finally:
        process.terminate()
        process.join()


def _serve(parent: Connection, nodes: list[Told]) -> None:
    page = Exposition(nodes)
    page.start()
    parent.send((page.address, page.series))
    parent.poll(None)  # until the parent is gone, should it not end us itself


def _keep_beating(parent: Connection, database_url: str) -> None:
    engine = make_engine(database_url)
    parent.send(None)
    is_over = False
    while not is_over:
        with session_scope(engine, read_only=True) as session:
            ids = sorted(session.scalars(select(Node.id)))
        for start in range(0, len(ids), BEATS_AT_ONCE):
            some = ids[start : start + BEATS_AT_ONCE]
            with session_scope(engine) as session:
                session.execute(select(Node.id).where(Node.id.in_(some)).order_by(Node.id).with_for_update())
                session.execute(update(Node).where(Node.id.in_(some)).values(last_heartbeat_at=datetime.now(UTC)))
        is_over = parent.poll(BEAT_S)
