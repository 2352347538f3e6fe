"""One streamed HTTP request with as little work as possible while it runs: bytes and arrival times; sense is made afterwards.

The client shares its cores with the server under test, so nothing is parsed before the measured window has ended. Each
request has a connection of its own and asks for its end (`Connection: close`), which every HTTP/1.1 server understands.
"""

import asyncio
import bisect
import itertools
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import urlsplit

from inference_node.errors import Invalid

_MAX_HEADERS = 65_536


class AnswerMalformed(ValueError):
    """The bytes are no HTTP/1.x answer."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. `base` is what stands before each path."""

    host: str
    port: int
    base: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises Invalid for anything but http(s)://host[:port][/base]."""
        parts = urlsplit(url.rstrip("/"))
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise Invalid(f"{url!r} is no address of a server; write it as http://127.0.0.1:8701")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, port or (443 if tls else 80), parts.path, tls)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The whole request, ready to be written to a socket."""
        lines = [
            f"POST {self.base}{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Accept: text/event-stream",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class Recording:
    """What came back, as (time.perf_counter, bytes) in order. `failure` says why it is not whole."""

    started_s: float
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    failure: str | None = None

    def answer(self) -> "Answer":
        """Raises AnswerMalformed."""
        return Answer.parse(self.arrivals)


class _Recorder(asyncio.Protocol):
    def __init__(self, request: bytes, recording: Recording, ended: asyncio.Future[None]) -> None:
        self._request, self._arrivals, self._ended = request, recording.arrivals, ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)  # uvloop's is one without being a subclass

    def data_received(self, data: bytes) -> None:
        self._arrivals.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            if exc is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(exc)


async def record(address: Address, request: bytes, timeout_s: float) -> Recording:
    """Send and listen until the server closes. Never raises for what the server or the network does."""
    loop = asyncio.get_running_loop()
    recording, ended = Recording(time.perf_counter()), loop.create_future()
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(
                lambda: _Recorder(request, recording, ended), address.host, address.port, ssl=address.tls
            )
            try:
                await ended
            finally:
                transport.abort()
    except TimeoutError:
        recording.failure = f"no end within {timeout_s:g} s"
    except OSError as error:
        recording.failure = f"{type(error).__name__}: {error.strerror or error}"
    return recording


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, and when each byte of its body arrived."""

    status: int
    body: bytes
    # Ends (exclusive) of runs of body bytes that arrived together, and when they did.
    _ends: tuple[int, ...]
    _times: tuple[float, ...]

    @classmethod
    def parse(cls, arrivals: Sequence[tuple[float, bytes]]) -> Self:
        """Raises AnswerMalformed."""
        raw = b"".join(data for _, data in arrivals)
        head, separator, _ = raw[:_MAX_HEADERS].partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"HTTP/1."):
            raise AnswerMalformed(f"this is no HTTP answer: {raw[:60]!r}")
        lines = head.split(b"\r\n")
        fields = [line.lower().partition(b":") for line in lines[1:]]
        chunked = any(name == b"transfer-encoding" and b"chunked" in value for name, _, value in fields)
        start = len(head) + 4
        spans = list(_chunks(raw, start)) if chunked else [(start, len(raw))]
        raw_ends = list(itertools.accumulate(len(data) for _, data in arrivals))
        body, ends, times = bytearray(), list[int](), list[float]()
        for begin, end in spans:
            while begin < end:
                read = bisect.bisect_right(raw_ends, begin)
                stop = min(end, raw_ends[read])
                body += raw[begin:stop]
                ends.append(len(body))
                times.append(arrivals[read][0])
                begin = stop
        try:
            status = int(lines[0].split()[1])
        except (IndexError, ValueError):
            raise AnswerMalformed(f"this is no HTTP status line: {lines[0][:60]!r}") from None
        return cls(status, bytes(body), tuple(ends), tuple(times))

    def events(self) -> Iterator[tuple[float, bytes]]:
        """(arrival of its last byte, data) of each server-sent event that has data, in order."""
        place = 0
        while place < len(self.body):
            end = self.body.find(b"\n", place)
            end = len(self.body) if end < 0 else end
            line = self.body[place:end].rstrip(b"\r")
            if line.startswith(b"data:"):
                yield self._arrival(end - 1), line[5:].strip()
            place = end + 1

    def _arrival(self, place: int) -> float:
        return self._times[bisect.bisect_right(self._ends, place)]


def _chunks(raw: bytes, place: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of each chunk's data in a chunked body (RFC 9112, section 7.1); ends early where the bytes do."""
    while (line_end := raw.find(b"\r\n", place)) >= 0:
        try:
            size = int(raw[place:line_end].partition(b";")[0], 16)
        except ValueError:
            raise AnswerMalformed(f"this is no chunk size: {raw[place:line_end][:20]!r}") from None
        if size == 0:
            return
        begin = line_end + 2
        yield begin, min(begin + size, len(raw))
        place = begin + size + 2
