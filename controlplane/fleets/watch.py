"""Lets many nodes wait for a new wish while SQL is asked once per half second for all of them together."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy import Engine, select

from controlplane.db import session_scope
from controlplane.fleets.models import Node

POLL_S = 0.5


@dataclass(eq=False, slots=True)
class _Waiter:
    node_id: str
    after: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class DesiredWatch:
    """The long polls that are open in this process. Everything runs in the event loop, but for the query."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiters: set[_Waiter] = set()
        self._closed = False

    async def wait(self, node_id: str, *, after: int, timeout_s: float) -> None:
        """Returns when the node's desired generation is above `after`, when the time is up, or when the server stops."""
        if self._closed:
            return
        waiter = _Waiter(node_id, after)
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.woken.wait()
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    async def poll(self) -> None:
        """One round for all who wait; without any SQL is left in peace."""
        if not self._waiters:
            return
        generations = await asyncio.to_thread(self._read)
        for waiter in self._waiters:
            if generations.get(waiter.node_id, 0) > waiter.after:
                waiter.woken.set()

    def close(self) -> None:
        self._closed = True
        for waiter in self._waiters:
            waiter.woken.set()

    def _read(self) -> dict[str, int]:
        with session_scope(self._engine, read_only=True) as session:
            rows = session.execute(select(Node.id, Node.desired_generation).where(Node.is_there)).all()
        return {row.id: row.desired_generation for row in rows}
