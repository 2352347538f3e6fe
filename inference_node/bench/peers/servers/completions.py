"""The thinnest OpenAI-compatible door that a library without a server can get: `POST /v1/completions`, streamed.

One hand-written HTTP/1.1 reader on asyncio and nothing else, so that what is measured is the engine behind it; our own node
is measured with its whole FastAPI stack. Run in the peers' virtual environments: standard library only.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(slots=True)
class Request:
    """One completion; its tokens arrive in `queue`, and None after the last."""

    number: int
    prompt: tuple[int, ...]
    max_tokens: int
    loop: asyncio.AbstractEventLoop
    queue: "asyncio.Queue[list[int] | None]" = field(default_factory=asyncio.Queue)

    def deliver(self, tokens: Sequence[int], finished: bool) -> None:
        """From any thread; `finished` ends the answer."""
        self.loop.call_soon_threadsafe(self._put, list(tokens), finished)

    def _put(self, tokens: list[int], finished: bool) -> None:
        if tokens:
            self.queue.put_nowait(tokens)
        if finished:
            self.queue.put_nowait(None)


class Engine(Protocol):
    """What a peer's server brings. Greedy, and the end-of-text token is a token like any other."""

    def submit(self, request: Request) -> None:
        """Called on the event loop; must not block."""

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, token: int) -> str: ...


def serve(engine: Engine, port: int, model: str) -> None:
    """Until killed."""
    asyncio.run(_Door(engine, model).run(port))


class _Door:
    def __init__(self, engine: Engine, model: str) -> None:
        self._engine, self._model, self._count = engine, model, 0
        self._texts: dict[int, str] = {}

    async def run(self, port: int) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", port, backlog=1024)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = next(
                (
                    int(line.partition(":")[2])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
            match method, path:
                case "POST", "/v1/completions":
                    await self._complete(json.loads(body), writer)
                case "GET", "/v1/models":
                    _whole(writer, 200, {"object": "list", "data": [{"id": self._model, "object": "model"}]})
                case "GET", "/health":
                    _whole(writer, 200, {})
                case _:
                    _whole(writer, 404, _error(f"there is no {method} {path} here"))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except (ValueError, KeyError, TypeError) as error:
            _whole(writer, 400, _error(f"{type(error).__name__}: {error}"))
        finally:
            writer.close()

    async def _complete(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        prompt = body["prompt"]
        tokens = tuple(self._engine.encode(prompt)) if isinstance(prompt, str) else tuple(prompt)
        self._count += 1
        request = Request(self._count, tokens, int(body["max_tokens"]), asyncio.get_running_loop())
        self._engine.submit(request)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        generated = 0
        while (piece := await request.queue.get()) is not None:
            generated += len(piece)
            self._event(writer, [{"index": 0, "text": "".join(map(self._text, piece)), "finish_reason": None}])
        self._event(writer, [{"index": 0, "text": "", "finish_reason": "length"}])
        usage = {"prompt_tokens": len(tokens), "completion_tokens": generated, "total_tokens": len(tokens) + generated}
        self._event(writer, [], usage)
        writer.write(b"data: [DONE]\n\n")

    def _event(
        self, writer: asyncio.StreamWriter, choices: list[dict[str, Any]], usage: dict[str, int] | None = None
    ) -> None:
        document = {"object": "text_completion", "model": self._model, "choices": choices, "usage": usage}
        writer.write(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")

    def _text(self, token: int) -> str:
        """Token by token: a character of several tokens comes out as replacement signs, which costs nothing to time."""
        if (text := self._texts.get(token)) is None:
            # An empty text would be no token to the client.
            text = self._texts[token] = self._engine.decode(token) or "\N{REPLACEMENT CHARACTER}"
        return text


def _whole(writer: asyncio.StreamWriter, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def options(*names: str) -> dict[str, str]:
    """`--name value` pairs of the command line; exits with a line when one is missing."""
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    if missing := [name for name in names if f"--{name}" not in given]:
        sys.exit(f"missing: {', '.join(f'--{name}' for name in missing)}")
    return {name: given[f"--{name}"] for name in names}
