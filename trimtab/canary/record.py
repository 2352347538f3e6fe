"""Records what windows of real nodes look like when nobody changes anything: the noise that a canary verdict must see through.

Puts an even open-loop load on nodes that run already, reads their `/metrics` at the border of each window, and keeps what the
control plane would have seen of it: the same counters, and the same interpolation in histogram buckets as PromQL's.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from inference_node.contract import metrics
from trimtab.canary.noise import NoiseWindow, Recording
from trimtab.errors import CommandError
from trimtab.traffic.nodes import Nodes
from trimtab.traffic.prompts import make_request

# A window that took this much longer than asked for was cut by a pause of the whole machine.
LATE_SHARE = 0.2
TIMEOUT_S = 60.0
MAX_IN_FLIGHT = 64

Sample = dict[tuple[str, float | None], float]  # (series, upper bucket bound) -> value
_HISTOGRAMS = {"ttft_p95_s": metrics.TTFT.name, "itl_p95_s": metrics.ITL.name}
_REQUESTS, _ERRORS = metrics.REQUEST_SUCCESS.name, metrics.REQUEST_ERRORS.name


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """rate_rps: per node."""

    urls: Sequence[str]
    rate_rps: float
    windows: int
    window_s: float = 10.0
    warm_up_s: float = 30.0
    seed: int = 0
    about: str = ""


def record(options: RecordOptions, progress: Callable[[str], None]) -> Recording:
    """Blocks for warm_up_s + windows x window_s seconds. Raises CommandError when no node answers."""
    return asyncio.run(_record(options, progress))


async def _record(options: RecordOptions, progress: Callable[[str], None]) -> Recording:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=MAX_IN_FLIGHT)
    async with httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
        model = await Nodes(client, options.urls).model()
        if model is None:
            raise CommandError(f"none of the nodes is ready: {', '.join(options.urls)}")
        load = [asyncio.create_task(_load(client, url, model, options, k)) for k, url in enumerate(options.urls)]
        try:
            await asyncio.sleep(options.warm_up_s)
            seen = await _watch(client, options, progress)
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
    return Recording(
        recorded_at=datetime.now(UTC), model=model, window_s=options.window_s, rate_rps=options.rate_rps,
        about=options.about, nodes=seen,
    )  # fmt: skip


async def _load(client: httpx2.AsyncClient, url: str, model: str, options: RecordOptions, number: int) -> None:
    """A Poisson process of requests, whatever becomes of the earlier ones."""
    source = random.Random(f"{options.seed}/{number}")
    node, running = Nodes(client, [url]), set[asyncio.Task[bool]]()
    at = time.monotonic()
    while True:
        at += source.expovariate(options.rate_rps)
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        if len(running) < MAX_IN_FLIGHT:
            task = asyncio.create_task(node.ask(url, make_request(model, source)))
            running.add(task)
            task.add_done_callback(running.discard)


async def _watch(
    client: httpx2.AsyncClient, options: RecordOptions, progress: Callable[[str], None]
) -> tuple[tuple[NoiseWindow | None, ...], ...]:
    """Per node its windows, None where the machine paused."""
    found: list[list[NoiseWindow | None]] = [[] for _ in options.urls]
    before, last = await _scrape(client, options.urls), time.monotonic()
    for number in range(1, options.windows + 1):
        await asyncio.sleep(max(0.0, last + options.window_s - time.monotonic()))
        took_s, last = time.monotonic() - last, time.monotonic()
        after = await _scrape(client, options.urls)
        for windows, old, new in zip(found, before, after, strict=True):
            on_time = took_s <= options.window_s * (1 + LATE_SHARE)
            windows.append(window_of(old, new) if on_time else None)
        before = after
        progress(f"window {number} of {options.windows}: {[windows[-1] for windows in found]}")
    return tuple(tuple(windows) for windows in found)


async def _scrape(client: httpx2.AsyncClient, urls: Sequence[str]) -> list[Sample]:
    texts = await asyncio.gather(*(client.get(f"{url}/metrics") for url in urls))
    return [read_sample(response.text) for response in texts]


def read_sample(text: str) -> Sample:
    """The counters and buckets that a window needs, summed over their other labels."""
    wanted = {*_HISTOGRAMS.values(), _REQUESTS.removesuffix("_total"), _ERRORS.removesuffix("_total")}
    found: Sample = {}
    for family in text_string_to_metric_families(text):
        if family.name not in wanted:
            continue
        for row in family.samples:
            bound = float(row.labels["le"]) if row.name.endswith("_bucket") else None
            if row.name.endswith(("_bucket", "_total")):
                key = (row.name.removesuffix("_bucket"), bound)
                found[key] = found.get(key, 0.0) + row.value
    return found


def window_of(before: Sample, after: Sample) -> NoiseWindow:
    """What happened between two samples of one node."""

    def grown(name: str) -> int:
        name = name if name.endswith("_total") else f"{name}_total"
        return round(after.get((name, None), 0.0) - before.get((name, None), 0.0))

    latencies = {}
    for field, name in _HISTOGRAMS.items():
        buckets = [
            (bound, value - before.get((name, bound), 0.0))
            for (series, bound), value in after.items()
            if series == name and bound is not None
        ]
        latencies[field] = quantile(0.95, sorted(buckets))
    errors = grown(_ERRORS)
    return NoiseWindow(requests=grown(_REQUESTS), errors=errors, **latencies)


def quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Linear within the bucket that holds it, as PromQL's `histogram_quantile` (classic histograms); None without samples.

    buckets: (upper bound, cumulative count), ascending, the last one +Inf.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank, below_bound, below_count = q * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return below_bound
            return below_bound + (bound - below_bound) * (rank - below_count) / (count - below_count)
        below_bound, below_count = bound, count
    return below_bound
