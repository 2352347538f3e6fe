"""Clients that no server deserves: malformed requests, readers that do not read, and those that leave in the middle.

Raw sockets, since an HTTP library would refuse to do such things.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

PATHS = ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize")
_VALID: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hello", "max_tokens": 2, "temperature": 0},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1, 2]},
}
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "\x00", "\ud800", "é" * 50, "a" * 5000, [], [[]], [None], [0], [-1], [2**70], ["a", 1], {}, {"a": {}}, [{}],
    {"role": "user"}, [{"role": "user", "content": None}], [{"role": 7, "content": []}], "\N{REPLACEMENT CHARACTER}",
)  # fmt: skip
_NAMES = (
    "prompt", "messages", "tokens", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "n",
    "stream", "stream_options", "stop", "seed", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty",
    "stop_token_ids", "priority", "deadline_ms", "cache_salt", "ignore_eos", "model", "tools", "logit_bias", "user",
    "response_format", "\ud800", "", "__class__", "add_special_tokens",
)  # fmt: skip


def malformed_request(source: random.Random) -> bytes:
    """One request that is broken somewhere: in its values, its JSON, its headers or its HTTP. Some are valid by chance."""
    path = source.choice(PATHS)
    kind = source.random()
    if kind < 0.55:
        body = _json(_mutated(dict(_VALID[path]), source))
    elif kind < 0.70:
        body = _json(_mutated(dict(_VALID[path]), source))
        body = body[: source.randrange(len(body) + 1)] + source.randbytes(source.choice((0, 0, 1, 8)))
    elif kind < 0.80:
        deep = source.choice((10, 5000, 100_000))
        body = source.choice((b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep))
    elif kind < 0.90:
        body = source.choice((b"", b"null", b"7", b'"x"', b"[]", b"{}", b"{" * 3, b"\xff\xfe", b"1" * 5000, b"NaN"))
    else:
        return _broken_http(path, source)
    content_type = source.choice(
        ("application/json",) * 6 + ("text/plain", "application/x-www-form-urlencoded", "\x7f", "")
    )
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    extra = source.choice(
        ("", "", "", "x-deadline-ms: soon\r\n", "authorization: Bearer \xff\r\n", "expect: 100-continue\r\n")
    )
    return (head + extra + "connection: close\r\n\r\n").encode("latin-1") + body


def _broken_http(path: str, source: random.Random) -> bytes:
    return source.choice(
        (
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS hello
            b"POST " + path.encode() + b" HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
            b"POST " + path.encode() + b" HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
            b"POST " + path.encode() + b" HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
            b"POST "
            + path.encode()
            + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\nconnection: close\r\n\r\n{}",
            b"DELETE " + path.encode() + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            b"POST /v1/\xff%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            b"GET /v1/models/%00%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            b"GET /livez HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
            source.randbytes(200),
        )
    )


def _mutated(document: dict[str, Any], source: random.Random) -> Any:
    for _ in range(source.choice((1, 1, 2, 4))):
        name = source.choice([*document, *_NAMES]) if document else source.choice(_NAMES)
        if source.random() < 0.2:
            document.pop(name, None)
        else:
            document[name] = source.choice(_VALUES)
    return document if source.random() < 0.95 else [document]


def _json(value: Any) -> bytes:
    # 10**400 is written in full: Python's own limit on digits is one of the things tried.
    return json.dumps(value).encode()


@dataclass(slots=True)
class Answer:
    """`status` is None when the connection ended without one."""

    status: int | None
    body: bytes = b""


async def send(port: int, request: bytes, *, patience_s: float = 60.0) -> Answer:
    """Sends the bytes as they are and reads to the end of the connection; a half-close tells that nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        if b"content-length: 5000000" not in request and b"99999999999" not in request:
            writer.write_eof()
        data = await asyncio.wait_for(reader.read(-1), patience_s)
    except (OSError, TimeoutError):  # the node may have closed before the half-close, which then finds no connection
        return Answer(None)
    finally:
        writer.close()
    if not data.startswith(b"HTTP/1.1 "):
        return Answer(None, data)
    return Answer(int(data[9:12]), data.partition(b"\r\n\r\n")[2])


def streaming_request(max_tokens: int, prompt: str = "once upon a time", **more: Any) -> bytes:
    document = {
        "prompt": prompt,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        **more,
    }
    body = json.dumps(document).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\nconnection: close\r\n\r\n" + body


async def leave_after(port: int, events: int, max_tokens: int, *, hard: bool) -> int:
    """Reads that many events of a stream and goes away: with a FIN, or hard, with a reset. The HTTP status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(streaming_request(max_tokens))
    status = int((await reader.readline()).split()[1])
    while status == 200 and events and (line := await reader.readline()):
        events -= line.startswith(b"data: ")
    if hard:
        writer.transport.abort()
    else:
        writer.close()
    return status


@dataclass(slots=True)
class NeverReads:
    """Asks for a stream and does not take it, behind the smallest receive buffer that the kernel gives."""

    port: int
    max_tokens: int
    _writer: asyncio.StreamWriter | None = field(default=None, init=False)

    async def start(self) -> None:
        import socket

        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=1)
        assert isinstance(reader, asyncio.StreamReader)
        self._writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport can
        self._writer.write(streaming_request(self.max_tokens))
        await self._writer.drain()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
