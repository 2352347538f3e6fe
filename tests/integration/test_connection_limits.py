"""Limits of one connection, on a served app whose engine makes tokens faster than anybody reads them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from inference_node.server.connection import ConnectionLimits, guarded
from tests.support.hostile import NeverReads


class Cuts(list[str]):
    """The causes that were counted."""


@asynccontextmanager
async def serving(app: Any, *, client_timeout_s: float, max_connections: int = 50) -> AsyncIterator[tuple[int, Cuts]]:
    """The app behind guarded connections: its port, and what was cut."""
    cuts = Cuts()
    limits = ConnectionLimits(client_timeout_s, max_connections)
    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", ws="none", http=guarded(limits, cuts.append), access_log=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1], cuts
    finally:
        server.should_exit = True
        await task


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Streams until the client is gone; `sent` grows as long as it is let."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.create_task(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        await asyncio.sleep(0)
    ended.set()


ended = asyncio.Event()


async def short(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def talk(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.read(-1)
    writer.close()
    return answer


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


class TestGuardedProtocol:
    async def test_a_reader_that_takes_nothing_is_cut_and_the_application_hears_of_it(self) -> None:
        ended.clear()
        async with serving(endless, client_timeout_s=0.2) as (port, cuts):
            reader = NeverReads(port, max_tokens=1)
            await reader.start()
            await asyncio.wait_for(ended.wait(), 30)
            reader.close()
        # The kernel may notice first; either way the application was told.
        assert set(cuts) <= {"slow_reader"}

    @pytest.mark.parametrize(
        "beginning", [b"", b"GET / HT", GET, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx"]
    )
    async def test_a_request_that_does_not_come_is_answered_408(self, beginning: bytes) -> None:
        async with serving(short, client_timeout_s=0.2) as (port, cuts):
            answer = await talk(port, beginning)
        assert answer.startswith(b"HTTP/1.1 408 ") and cuts == ["slow_request"]
        assert answer.count(b"HTTP/1.1") == 1

    async def test_headers_have_a_size(self) -> None:
        async with serving(short, client_timeout_s=5.0) as (port, cuts):
            answer = await talk(port, GET + b"x: " + b"y" * 300_000)
        assert answer.startswith(b"HTTP/1.1 431 ") and cuts == ["headers"]

    async def test_a_long_body_is_no_long_header(self) -> None:
        async with serving(short, client_timeout_s=5.0) as (port, cuts):
            body = b"z" * 300_000
            head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            answer = await talk(port, head + body)
        assert answer.startswith(b"HTTP/1.1 200 ") and cuts == []

    async def test_what_is_no_http_is_told_so_in_our_words(self) -> None:
        async with serving(short, client_timeout_s=5.0) as (port, cuts):
            answer = await talk(port, b"\x16\x03\x01 hello\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ") and cuts == ["malformed"]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]

    async def test_connections_beyond_the_limit_are_told_to_come_again(self) -> None:
        async with serving(short, client_timeout_s=5.0, max_connections=2) as (port, cuts):
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for reader, writer in kept:
                writer.write(GET + b"\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert (await talk(port, GET + b"\r\n")).startswith(b"HTTP/1.1 429 ")
            for _, writer in kept:
                writer.close()
        assert cuts == ["connections"]

    async def test_a_second_request_on_the_connection_has_its_own_time(self) -> None:
        async with serving(short, client_timeout_s=0.4) as (port, cuts):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):
                writer.write(GET + b"\r\n")
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
                await asyncio.sleep(0.25)
            writer.write(GET)
            assert (await reader.read(-1)).startswith(b"HTTP/1.1 408 ")
            writer.close()
        assert cuts == ["slow_request"]
