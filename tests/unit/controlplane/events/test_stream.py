"""The fan-out, round by round: the tests call `poll()` where the server does so each second."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from controlplane.db import make_engine, session_scope
from controlplane.errors import Unavailable
from controlplane.events import service
from controlplane.events.models import Event
from controlplane.events.stream import MAX_BACKLOG, MAX_REPLAY, RESET, EventFanOut, Listener, Message
from controlplane.models import metadata

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    # A file, since the fan-out reads in another thread.
    engine = make_engine(f"sqlite:///{tmp_path}/events.sqlite3")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def write(engine: Engine, *kinds: str) -> list[int]:
    with session_scope(engine) as session:
        made = [service.record(session, kind=kind, message="", at=NOW) for kind in kinds]
        session.flush()
        return [event.id for event in made]


async def heard(listener: Listener) -> list[str]:
    """What is queued for the listener, after which it is ended."""
    listener.end()
    return [message.event async for message in listener.messages()]


async def test_each_listener_hears_what_is_committed_after_it_came(engine: Engine) -> None:
    fan_out = EventFanOut(engine)
    write(engine, "before")
    first = await fan_out.listen()
    write(engine, "one")
    await fan_out.poll()
    second = await fan_out.listen()
    write(engine, "two", "three")
    await fan_out.poll()
    await fan_out.poll()
    assert await heard(first) == ["one", "two", "three"]
    assert await heard(second) == ["two", "three"]


async def test_an_event_committed_after_one_with_a_higher_id_is_heard_too(engine: Engine) -> None:
    fan_out = EventFanOut(engine)
    listener = await fan_out.listen()
    with session_scope(engine) as session:
        session.add(_row(12, "late-committer-overtook"))
    await fan_out.poll()
    with session_scope(engine) as session:
        session.add(_row(11, "late"))
    await fan_out.poll()
    assert await heard(listener) == ["late-committer-overtook", "late"]


async def test_replays_what_was_missed_and_says_when_that_is_too_much(engine: Engine) -> None:
    fan_out = EventFanOut(engine)
    ids = write(engine, "a", "b", "c")
    assert [m.event for m in await fan_out.replay(ids[0])] == ["b", "c"]
    write(engine, *["x"] * MAX_REPLAY)
    assert await fan_out.replay(ids[0]) == [RESET]


async def test_a_listener_that_does_not_keep_up_is_ended_and_the_others_are_not(engine: Engine) -> None:
    fan_out = EventFanOut(engine)
    slow, quick = await fan_out.listen(), await fan_out.listen()
    for _ in range(MAX_BACKLOG):
        slow.offer(Message("filler", "{}"))
    write(engine, "one")
    await fan_out.poll()
    assert [m.event async for m in slow.messages()].count("one") == 0  # it ends, having lost the newest
    assert await heard(quick) == ["one"]


async def test_too_many_listeners_are_refused_until_one_leaves(engine: Engine) -> None:
    fan_out = EventFanOut(engine, max_listeners=1)
    listener = await fan_out.listen()
    with pytest.raises(Unavailable, match="poll the REST resources"):
        await fan_out.listen()
    fan_out.leave(listener)
    await fan_out.listen()


async def test_closing_ends_the_streams_and_lets_none_begin(engine: Engine) -> None:
    fan_out = EventFanOut(engine)
    listener = await fan_out.listen()
    fan_out.close()
    async with asyncio.timeout(5):
        assert [m async for m in listener.messages()] == []
    with pytest.raises(Unavailable, match="shutting down"):
        await fan_out.listen()


async def test_without_listeners_nothing_is_read(engine: Engine) -> None:
    reads = 0

    def count(_: object) -> list[Message]:
        nonlocal reads
        reads += 1
        return []

    fan_out = EventFanOut(engine, extra=count)
    await fan_out.poll()
    assert reads == 0
    await fan_out.listen()
    await fan_out.poll()
    assert reads == 1


def _row(event_id: int, kind: str) -> Event:
    return Event(id=event_id, at=NOW, kind=kind, message="", data={})


class TestFrames:
    async def test_are_what_a_browser_reads(self, engine: Engine) -> None:
        listener = Listener()
        listener.offer(Message("tick", '{"pool_id":"p"}'))
        listener.offer(Message("pool.frozen", "{}", 7))
        listener.end()
        frames = [frame async for frame in listener.frames()]
        assert frames == [b'event: tick\ndata: {"pool_id":"p"}\n\n', b"event: pool.frozen\ndata: {}\nid: 7\n\n"]

    async def test_leave_out_what_was_told_before(self) -> None:
        listener = Listener()
        for number in (1, 2, 3):
            listener.offer(Message("e", "{}", number))
        listener.end()
        assert [frame async for frame in listener.frames(but={1, 3})] == [Message("e", "{}", 2).frame]

    async def test_keep_a_quiet_connection(self) -> None:
        frames = Listener().frames(quiet_s=0.001)
        assert await anext(frames) == await anext(frames) == b": ping\n\n"
        await frames.aclose()  # type: ignore[attr-defined]  # an async generator
