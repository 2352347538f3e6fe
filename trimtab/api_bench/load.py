"""What people do to an API, in an open loop: a late answer delays no request, so that waiting shows in the figures.

Latencies count from when a request was due. An event's way counts from the change that it tells of (`at`) until a stream has it.
"""

import asyncio
import itertools
import json
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

# The last events are given so long to arrive, and streams so long to open.
_SETTLE_S, _OPEN_S = 3.0, 60.0
_PATIENCE_S = 30.0
_CONNECTIONS = 64
_LONGEST_LINE = 2**20


@dataclass(frozen=True, slots=True)
class Load:
    address: str
    token: str
    streams: int
    reads_per_s: float
    writes_per_s: float
    duration_s: float
    seed: int = 0


@dataclass(slots=True)
class _Seen:
    """What was timed: seconds by operation, failures by what they said, and each event's way to each stream."""

    reads: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    writes: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ways: list[float] = field(default_factory=list)
    open_streams: int = 0


async def put_on(load: Load) -> dict[str, Any]:
    """The load's figures. Raises httpx2.HTTPError when the API is not there at all."""
    seen = _Seen()
    async with _client(load, _CONNECTIONS) as http:
        reads = await _read_paths(http)
        pools = [pool["id"] for pool in (await http.get("/api/v1/pools")).json()["items"]]
        listeners = [asyncio.create_task(_listen(load, seen)) for _ in range(load.streams)]
        try:
            await _until(lambda: seen.open_streams == load.streams, _OPEN_S, listeners)
            randomly = random.Random(load.seed)
            await asyncio.gather(
                _at_rate(load.reads_per_s, load.duration_s, lambda due: _read(http, seen, randomly.choice(reads), due)),
                _writing(http, seen, pools, load),
            )
            await asyncio.sleep(_SETTLE_S)
        finally:
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)
    return _report(seen, load)


@asynccontextmanager
async def _client(load: Load, connections: int) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"Authorization": f"Bearer {load.token}"}
    async with httpx2.AsyncClient(
        base_url=load.address, headers=headers, timeout=_PATIENCE_S, limits=limits, trust_env=False
    ) as client:
        yield client


async def _read_paths(http: httpx2.AsyncClient) -> list[tuple[str, str]]:
    """Operation and path of what the web app's pages ask for, over all pools and some nodes."""

    async def ids(path: str, most: int) -> list[str]:
        answer = await http.get(path)
        answer.raise_for_status()
        return [item["id"] for item in answer.json()["items"][:most]]

    pools, nodes = await ids("/api/v1/pools", 50), await ids("/api/v1/nodes", 50)
    decisions = await ids("/api/v1/decisions", 50)
    once = ("fleet", "pools", "nodes", "decisions", "rollouts", "events", "alerts", "webhooks", "audit", "session")
    found = [(f"/{name}", f"/api/v1/{name}") for name in once for _ in range(4)]
    for pool in pools:
        found += [
            (f"/pools/{{id}}{rest}", f"/api/v1/pools/{pool}{rest}")
            for rest in ("", "/observations?limit=80", "/forecasts/latest", "/policy")
        ]
    found += [("/nodes/{id}", f"/api/v1/nodes/{node}") for node in nodes]
    return found + [("/decisions/{id}", f"/api/v1/decisions/{decision}") for decision in decisions]


async def _read(http: httpx2.AsyncClient, seen: _Seen, what: tuple[str, str], due: float) -> None:
    operation, path = what
    answer = await _asked(seen, operation, http.get(path))
    if answer is not None:
        seen.reads[operation].append(time.perf_counter() - due)


async def _writing(http: httpx2.AsyncClient, seen: _Seen, pools: list[str], load: Load) -> None:
    """Pools are frozen and let go on, in turn: each change is a transaction with an event. Those of one pool keep their order."""
    turns = _freezes(pools)
    order = {pool: asyncio.Lock() for pool in pools}

    async def write(due: float) -> None:
        method, pool = next(turns)
        async with order[pool]:
            await freeze(method, pool, due)

    async def freeze(method: str, pool: str, due: float) -> None:
        body = {"reason": "load"} if method == "POST" else None
        key = {"Idempotency-Key": secrets.token_hex(16)}
        asked = http.request(method, f"/api/v1/pools/{pool}/freeze", json=body, headers=key)
        if await _asked(seen, f"{method} /pools/{{id}}/freeze", asked) is not None:
            seen.writes.append(time.perf_counter() - due)

    await _at_rate(load.writes_per_s, load.duration_s, write)


def _freezes(pools: list[str]) -> Iterator[tuple[str, str]]:
    for method in itertools.cycle(("POST", "DELETE")):
        for pool in pools:
            yield method, pool


async def _asked(seen: _Seen, operation: str, asked: Coroutine[Any, Any, httpx2.Response]) -> httpx2.Response | None:
    try:
        answer = await asked
    except httpx2.HTTPError as error:
        seen.failures[f"{operation}: {type(error).__name__}"] += 1
        return None
    if answer.is_error:
        seen.failures[f"{operation}: {answer.status_code}"] += 1
        return None
    return answer


async def _at_rate(rate: float, duration_s: float, do: Callable[[float], Coroutine[Any, Any, None]]) -> None:
    """Begins `do` at even times, whether or not those before have ended, and waits for all of them."""
    if rate <= 0:
        return
    running: list[asyncio.Task[None]] = []
    began = time.perf_counter()
    for number in range(round(rate * duration_s)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.create_task(do(due)))
    await asyncio.gather(*running)


async def _listen(load: Load, seen: _Seen) -> None:
    """One open stream, as a browser keeps it. Read without a client library: so many of them would outweigh what is measured."""
    at = urlsplit(load.address)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=_LONGEST_LINE)
    try:
        ask = f"GET /api/v1/events/stream HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {load.token}\r\n\r\n"
        writer.write(ask.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise ConnectionError(f"a stream was refused: {status.decode().strip()}")
        seen.open_streams += 1
        while line := await reader.readline():
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[len(b"data: ") :])
            if str(event.get("kind", "")).startswith("pool."):
                seen.ways.append(time.time() - datetime.fromisoformat(event["at"]).timestamp())
    finally:
        writer.close()


async def _until(true: Callable[[], bool], timeout_s: float, tasks: list[asyncio.Task[None]]) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        for task in tasks:
            if task.done():
                task.result()  # raises why it ended
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all {len(tasks)} streams were open after {timeout_s:g} s")
        await asyncio.sleep(0.05)


def _report(seen: _Seen, load: Load) -> dict[str, Any]:
    reads = sorted(value for values in seen.reads.values() for value in values)
    return {
        "reads": {"count": len(reads), "seconds": summary(reads)},
        "reads_of": {name: summary(sorted(values)) for name, values in sorted(seen.reads.items())},
        "writes": {"count": len(seen.writes), "seconds": summary(sorted(seen.writes))},
        "event_to_stream": {
            "events": len(seen.writes), "arrivals": len(seen.ways),
            "missed": len(seen.writes) * load.streams - len(seen.ways), "seconds": summary(sorted(seen.ways)),
        },
        "failures": dict(seen.failures),
    }  # fmt: skip


def summary(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and maximum of sorted seconds."""
    if not values:
        return {}
    at = {f"p{q}": values[min(len(values) - 1, len(values) * q // 100)] for q in (50, 95, 99)}
    return {name: round(value, 4) for name, value in at.items()} | {"max": round(values[-1], 4)}
