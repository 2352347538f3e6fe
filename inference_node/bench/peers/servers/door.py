"""The thinnest OpenAI-compatible door that a library without a server can get: `POST /v1/completions`, streamed.

`python door.py --port N --name MODEL -- COMMAND ...` runs COMMAND as the engine (see `pipe.py`) and listens once it is ready.
One hand-written HTTP/1.1 reader on asyncio and nothing else, so that what is measured is the engine; our own node is measured
with its whole server. Standard library only.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

_LINE_BYTES = 1 << 24


class Door:
    """Passes requests to the engine and its tokens to whoever waits for them."""

    def __init__(self, engine: Process, model: str) -> None:
        assert engine.stdin is not None and engine.stdout is not None
        self._to_engine, self._from_engine, self._model = engine.stdin, engine.stdout, model
        self._waiting: dict[int, asyncio.Queue[tuple[int, str, bool]]] = {}
        self._count = 0

    async def deliver(self) -> None:
        """Until the engine ends."""
        while line := await self._from_engine.readline():
            for number, tokens, text, ended in json.loads(line):
                if (queue := self._waiting.get(number)) is not None:
                    queue.put_nowait((tokens, text, ended))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            lengths = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
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
        request = {"prompt": body["prompt"], "max_tokens": int(body["max_tokens"])}
        self._count += 1
        number = self._count
        queue = self._waiting[number] = asyncio.Queue()
        try:
            self._to_engine.write(json.dumps({"number": number, **request}).encode() + b"\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            prompt_tokens = generated = 0
            ended = False
            while not ended:
                tokens, text, ended = await queue.get()
                prompt_tokens, generated = prompt_tokens + max(0, -tokens), generated + max(0, tokens)
                if text:
                    self._event(writer, [{"index": 0, "text": text, "finish_reason": None}])
            self._event(writer, [{"index": 0, "text": "", "finish_reason": "length"}])
            total = prompt_tokens + generated
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": generated, "total_tokens": total}
            self._event(writer, [], usage)
            writer.write(b"data: [DONE]\n\n")
        finally:
            del self._waiting[number]

    def _event(
        self, writer: asyncio.StreamWriter, choices: list[dict[str, Any]], usage: dict[str, int] | None = None
    ) -> None:
        document = {"object": "text_completion", "model": self._model, "choices": choices, "usage": usage}
        writer.write(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")


def _whole(writer: asyncio.StreamWriter, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


async def run(port: int, model: str, command: list[str]) -> int:
    """Until the engine ends; its exit code, or 1 when it ended without one of its own."""
    engine = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES)
    assert engine.stdout is not None
    if not await engine.stdout.readline():
        return await engine.wait() or 1
    door = Door(engine, model)
    async with await asyncio.start_server(door.answer, "127.0.0.1", port, backlog=1024):
        await door.deliver()
    return await engine.wait() or 1


if __name__ == "__main__":
    cut = sys.argv.index("--")
    given = dict(zip(sys.argv[1:cut:2], sys.argv[2:cut:2], strict=True))
    sys.exit(asyncio.run(run(int(given["--port"]), given["--name"], sys.argv[cut + 1 :])))
