"""The process `trimtab demo-traffic`: measures what the nodes can do, then sends an open-loop load that surges past it."""

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

import httpx2

from inference_node.contract.step_profile import StepProfile
from trimtab.connection import Connection
from trimtab.errors import CommandError
from trimtab.traffic.nodes import Nodes, decode_gain, read_profile
from trimtab.traffic.prompts import make_request
from trimtab.traffic.schedule import Rates, Surges, choose_rates, next_arrival

SMALL_BATCH, LARGE_BATCH = 4, 16
# Half of what the nodes run at once: the measurement itself must not look like the surge that it prepares.
CALIBRATION_CLIENTS = 2
CALIBRATION_S = 6.0
# Used when no node tells its step times; modest, so that a surge stays within what a larger batch serves.
ASSUMED_GAIN = 2.0
MAX_IN_FLIGHT = 96
# A node that takes longer than this over one answer is as good as gone for a person who waits.
TIMEOUT_S = 120.0
REPORT_EVERY_S = 30.0


def run_demo_traffic(connection: Connection, data_dir: Path, calm_s: float, seed: int | None = None) -> int:
    """Until SIGINT, SIGTERM, or the end of the process that started this one. Returns the exit code.

    calm_s: from the end of the measurement to the first surge, in seconds.
    """
    token_file = data_dir / "nodes" / connection.nodes[0][0] / "admin_token"
    try:
        admin_token = token_file.read_text().strip()
    except OSError as error:
        raise CommandError(f"the node's admin token cannot be read from {token_file}: {error.strerror}") from None
    asyncio.run(_main(connection, admin_token, Surges(first_s=calm_s), random.Random(seed)))
    return 0


async def _main(connection: Connection, admin_token: str, surges: Surges, source: random.Random) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=MAX_IN_FLIGHT)
    async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
        nodes = Nodes(client, [url for _, url in connection.nodes])
        work = asyncio.create_task(_drive(nodes, connection, admin_token, surges, source))
        watching = [asyncio.create_task(stop.wait()), asyncio.create_task(_parent_is_gone()), work]
        await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        for task in watching:
            task.cancel()
        results = await asyncio.gather(*watching, return_exceptions=True)
        if isinstance(results[-1], Exception):
            raise results[-1]


async def _parent_is_gone() -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 (no event tells)
        await asyncio.sleep(1.0)


async def _drive(nodes: Nodes, connection: Connection, admin_token: str, surges: Surges, source: random.Random) -> None:
    while (model := await nodes.model()) is None:  # noqa: ASYNC110 (it asks other processes)
        await asyncio.sleep(1.0)
    measured_rps = await calibrate(nodes, model, source)
    profile = await read_profile(nodes.client, connection.nodes[0][1], admin_token) or StepProfile()
    small_rps = measured_rps * (decode_gain(profile, CALIBRATION_CLIENTS, SMALL_BATCH) or ASSUMED_GAIN)
    gain = decode_gain(profile, SMALL_BATCH, LARGE_BATCH) or ASSUMED_GAIN
    rates = choose_rates(small_rps, gain)
    _say(
        f"{CALIBRATION_CLIENTS} clients a node get {measured_rps:.2f} requests/s, so batch {SMALL_BATCH} serves about "
        f"{small_rps:.2f} and batch {LARGE_BATCH} {gain:.2f} times that. Calm {rates.calm_rps:.2f}, surge "
        f"{rates.surge_rps:.2f} requests/s"
    )
    await offer(nodes, model, rates, surges, source)


async def calibrate(nodes: Nodes, model: str, source: random.Random, seconds: float = CALIBRATION_S) -> float:
    """Requests per second that all nodes together finish with CALIBRATION_CLIENTS each: a short closed loop.

    Requests that are still running at the end count as half of one each.
    """
    started, before = time.monotonic(), nodes.tally.finished

    async def client(url: str) -> None:
        while True:
            if not await nodes.ask(url, make_request(model, source)):
                await asyncio.sleep(0.2)

    clients = [asyncio.create_task(client(url)) for url in nodes.urls for _ in range(CALIBRATION_CLIENTS)]
    # A slow machine may need longer until it has finished enough to divide by.
    await asyncio.sleep(seconds)
    while nodes.tally.finished - before < len(clients) and time.monotonic() - started < 10 * seconds:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    finished, elapsed_s = nodes.tally.finished - before, time.monotonic() - started
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return (finished + len(clients) / 2) / elapsed_s


async def offer(nodes: Nodes, model: str, rates: Rates, surges: Surges, source: random.Random) -> None:
    """Sends requests at their times whatever becomes of the earlier ones (open loop), for ever."""
    running: set[asyncio.Task[bool]] = set()
    started = time.monotonic()
    at_s, report_s = 0.0, REPORT_EVERY_S
    while True:
        at_s = next_arrival(at_s, rates, surges, source)
        await asyncio.sleep(max(0.0, started + at_s - time.monotonic()))
        url = nodes.next_url()
        if url is None or len(running) >= MAX_IN_FLIGHT:
            nodes.tally.dropped += 1
        else:
            task = asyncio.create_task(nodes.ask(url, make_request(model, source)))
            running.add(task)
            task.add_done_callback(running.discard)
        if at_s >= report_s:
            report_s = at_s + REPORT_EVERY_S
            tally = nodes.tally
            _say(
                f"level {surges.level(at_s):.2f}: sent {tally.sent}, finished {tally.finished}, refused {tally.refused}, "
                f"failed {tally.failed}, not sent {tally.dropped}, in flight {len(running)}"
            )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
