"""The live stream: SQL is read every POLL_S for all listeners together, and what is new is handed to each.

A listener that cannot keep up is cut off; it comes back with `Last-Event-ID` and is given what it missed out of SQL.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.errors import Unavailable
from controlplane.events.models import Event
from controlplane.events.schemas import EventOut
from controlplane.events.service import events_after

POLL_S = 0.4  # what an event waits at most before streams have it
MAX_LISTENERS = 500
QUIET_S = 15.0  # the HTML standard's advice for comments that keep a connection
MAX_BACKLOG = 1000  # messages that wait for one listener
MAX_REPLAY = 500
# On PostgreSQL a row may be committed after one with a higher id, so ids this far back are looked at again.
OVERLAP_IDS = 100


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the stream: `data` is JSON text; `id` only for what SQL can replay. `frame` is what goes over the wire,
    made once for all listeners."""

    event: str
    data: str
    id: int | None = None
    frame: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = None if self.id is None else str(self.id)
        object.__setattr__(self, "frame", format_sse_event(event=self.event, data_str=self.data, id=number))


RESET = Message("reset", "{}")  # more was missed than is replayed: fetch anew what is shown

ExtraSource = Callable[[Session], list[Message]]


class EventFanOut:
    """Reads new events and hands them out. All but the queries runs in the event loop."""

    def __init__(self, engine: Engine, *, extra: ExtraSource | None = None, max_listeners: int = MAX_LISTENERS) -> None:
        self._engine = engine
        self._extra = extra
        self._max_listeners = max_listeners
        self._listeners: set[Listener] = set()
        self._last_id: int | None = None
        self._seen: deque[int] = deque(maxlen=4 * OVERLAP_IDS)
        self._closed = False

    async def listen(self) -> "Listener":
        """A new listener; it hears what is committed from now on. Raises Unavailable when there are too many."""
        if self._closed:
            raise Unavailable("the API is shutting down: connect again in a moment", retry_after_s=2)
        if len(self._listeners) >= self._max_listeners:
            raise Unavailable(
                f"{self._max_listeners} listeners are connected already: poll the REST resources instead, or try later",
                retry_after_s=30,
            )
        listener = Listener()
        self._listeners.add(listener)
        if self._last_id is None:
            self._remember(*await asyncio.to_thread(self._mark))
        return listener

    def leave(self, listener: "Listener") -> None:
        self._listeners.discard(listener)

    def close(self) -> None:
        """Ends all streams, so that the server can stop; they reconnect elsewhere or later."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    async def replay(self, after_id: int) -> list[Message]:
        """What a listener missed since `after_id`, at most MAX_REPLAY events; RESET when it missed more."""
        return await asyncio.to_thread(self._replay, after_id)

    async def poll(self) -> None:
        """One round. Without listeners SQL is left in peace, and the next listener starts from the then latest event."""
        if not self._listeners:
            self._last_id = None
            return
        if self._last_id is None:
            return  # the first listener is about to mark where it starts
        fresh, extra = await asyncio.to_thread(self._read, self._last_id, frozenset(self._seen))
        self._remember(self._last_id, [message.id for message in fresh if message.id is not None])
        for message in fresh + extra:
            for listener in list(self._listeners):
                if not listener.offer(message):
                    self.leave(listener)

    def _remember(self, last_id: int, ids: list[int]) -> None:
        self._seen.extend(ids)
        self._last_id = max([self._last_id or 0, last_id, *ids])

    def _mark(self) -> tuple[int, list[int]]:
        with session_scope(self._engine, read_only=True) as session:
            last_id = session.scalar(select(func.max(Event.id))) or 0
            return last_id, list(session.scalars(select(Event.id).where(Event.id > last_id - OVERLAP_IDS)))

    def _read(self, last_id: int, seen: frozenset[int]) -> tuple[list[Message], list[Message]]:
        with session_scope(self._engine, read_only=True) as session:
            rows = events_after(session, last_id - OVERLAP_IDS, limit=OVERLAP_IDS + MAX_BACKLOG)
            extra = self._extra(session) if self._extra is not None else []
        return [_message(row) for row in rows if row.id not in seen], extra

    def _replay(self, after_id: int) -> list[Message]:
        with session_scope(self._engine, read_only=True) as session:
            rows = events_after(session, after_id, limit=MAX_REPLAY + 1)
        return [RESET] if len(rows) > MAX_REPLAY else [_message(row) for row in rows]


class Listener:
    """One open stream's queue."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue(MAX_BACKLOG)

    def offer(self, message: Message) -> bool:
        """Queues a message; False when the listener is too far behind and was ended."""
        if self._queue.full():
            self.end()
            return False
        self._queue.put_nowait(message)
        return True

    def end(self) -> None:
        while self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._queue.get()) is not None:
            yield message

    async def frames(self, *, but: Collection[int] = (), quiet_s: float = QUIET_S) -> AsyncIterator[bytes]:
        """What goes over the wire until the listener is ended: messages, but those of the ids in `but`, and after each
        `quiet_s` without one a comment, which tells a dead connection from a quiet one."""
        while True:
            try:
                async with asyncio.timeout(quiet_s):
                    message = await self._queue.get()
            except TimeoutError:
                yield KEEPALIVE_COMMENT
                continue
            if message is None:
                return
            if message.id is None or message.id not in but:
                yield message.frame


def _message(row: Event) -> Message:
    return Message(row.kind, EventOut.model_validate(row).model_dump_json(), row.id)
