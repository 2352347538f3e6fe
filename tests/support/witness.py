"""A client that behaves, as a process of its own: what it sees is the server's doing, not that of its neighbours in a test.

`python witness.py PORT ANSWERS TOKENS`: streams one answer after the other (ANSWERS of them, or 0: until its stdin is closed),
checks that each is whole, and prints {"answers": ..., "gaps_ms": [...]}: the times between tokens, first tokens left out.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Testimony:
    answers: int
    gaps_ms: list[float]

    @property
    def p95_ms(self) -> float:
        return sorted(self.gaps_ms)[int(0.95 * len(self.gaps_ms))]


class Witness:
    """The process. `tell` ends it and returns what it saw; raises AssertionError when an answer was not whole."""

    def __init__(self, port: int, *, answers: int = 0, tokens: int = 40) -> None:
        command = [sys.executable, str(Path(__file__)), str(port), str(answers), str(tokens)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self) -> Testimony:
        out, _ = self._process.communicate()  # closes its stdin
        assert self._process.returncode == 0, "a witness's answer was cut or wrong; its traceback is above"
        return Testimony(**json.loads(out))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


async def _ask(port: int, tokens: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(
        {
            "prompt": "once upon a time",
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(head.encode() + b"\r\nconnection: close\r\n\r\n" + body)
    gaps_ms: list[float] = []
    last, completed, ended = 0.0, 0, False
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        now = time.perf_counter()
        if last:
            gaps_ms.append(1e3 * (now - last))
        last = now
        ended = line == b"data: [DONE]\n"
        if not ended:
            document = json.loads(line[6:])
            assert "error" not in document, document
            completed = (document.get("usage") or {}).get("completion_tokens", completed)
    writer.close()
    assert ended and completed == tokens, f"{completed} of {tokens} tokens, ended: {ended}"
    return gaps_ms


async def _watch(port: int, answers: int, tokens: int) -> None:
    told = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        told.set()

    threading.Thread(target=wait, daemon=True).start()
    gaps_ms: list[float] = []
    done = 0
    while done < answers if answers else not (told.is_set() and done):
        gaps_ms += await _ask(port, tokens)
        done += 1
    json.dump({"answers": done, "gaps_ms": gaps_ms}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_watch(*map(int, sys.argv[1:4])))
