"""Asks Prometheus and makes validated observations of the answers.

One fetch covers all pools: calls with the same (`at`, `window_s`) share it, so a controller with many pools pays once a tick.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controlplane.telemetry.observation import FACTS, NodeRef, Observation, PoolRef, Quality, finite
from controlplane.telemetry.prometheus import Sample
from controlplane.telemetry.queries import AGE, TRIMTAB, UP, EngineAdapter, Grouping, batches, expressions

Facts = Mapping[str, float]

# Without these a window cannot carry a decision; latencies are rightly absent when no request finished.
_NEEDED = ("offered", "running", "waiting")
_RATES = {
    "offered": "offered_rps",
    "prompt_tokens": "prompt_tokens_per_s",
    "generation_tokens": "generation_tokens_per_s",
}


class Querier(Protocol):
    """Asked from two threads at a time."""

    def query(self, promql: str, at: datetime) -> list[Sample]: ...


@dataclass(frozen=True, slots=True)
class _Fetch:
    at: datetime
    window_s: float
    nodes: Mapping[str, Facts]
    pools: Mapping[tuple[str, str], Facts]


class Collector:
    """Not thread-safe: it keeps the last fetch. `scrape_interval_s` is what "stale" is measured in (three of them)."""

    def __init__(
        self, prometheus: Querier, *, scrape_interval_s: float = 5.0, adapter: EngineAdapter = TRIMTAB
    ) -> None:
        self._prometheus = prometheus
        self._stale_after_s = 3 * scrape_interval_s
        self._adapter = adapter
        self._last: _Fetch | None = None
        # One thread for good: the client keeps a connection for each that asks.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="collect")

    def collect(
        self, pool: PoolRef, nodes: Sequence[NodeRef], at: datetime, window_s: float
    ) -> tuple[Observation, dict[str, Observation]]:
        """The window ending `at`, of the pool and by node id of each of `nodes`. Raises PrometheusUnavailable."""
        fetch = self._fetch(at, window_s)
        by_node = {node.id: self._observe_node(fetch, node) for node in nodes}
        quality = _pool_quality([o.quality for o in by_node.values()])
        facts = fetch.pools.get((pool.fleet, pool.name), {})
        if quality in {Quality.OK, Quality.PARTIAL} and not all(name in facts for name in _NEEDED):
            quality = Quality.MISSING
        nodes_up = sum(o.nodes_up or 0 for o in by_node.values())
        return _observation(fetch, quality, facts, nodes_up), by_node

    def _observe_node(self, fetch: _Fetch, node: NodeRef) -> Observation:
        facts = fetch.nodes.get(node.id, {})
        up = facts.get(UP)
        quality = Quality.OK
        if not up:
            quality = Quality.MISSING
        elif facts.get(AGE, 0.0) > self._stale_after_s:
            quality = Quality.STALE
        elif not all(name in facts for name in _NEEDED):
            quality = Quality.PARTIAL if any(name in facts for name in _NEEDED) else Quality.MISSING
        return _observation(fetch, quality, facts, int(quality in {Quality.OK, Quality.PARTIAL}))

    def _fetch(self, at: datetime, window_s: float) -> _Fetch:
        last = self._last
        if last is not None and (last.at, last.window_s) == (at, window_s):
            return last
        # Side by side: each takes a second of one of Prometheus' cores for a thousand nodes.
        asked = self._beside.submit(self._ask, Grouping.POOL, at, window_s)
        nodes = {labels[0]: facts for labels, facts in self._ask(Grouping.NODE, at, window_s).items()}
        pools = {(labels[0], labels[1]): facts for labels, facts in asked.result().items()}
        self._last = _Fetch(at, window_s, nodes, pools)
        return self._last

    def _ask(self, grouping: Grouping, at: datetime, window_s: float) -> dict[tuple[str, ...], dict[str, float]]:
        keys = grouping.value.split(", ")
        found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for query in batches(expressions(self._adapter, grouping, window_s)):
            for sample in self._prometheus.query(query, at):
                value = finite(sample.value)
                if value is not None:
                    found[tuple(sample.labels.get(key, "") for key in keys)][sample.labels["fact"]] = value
        return found


def _observation(fetch: _Fetch, quality: Quality, facts: Facts, nodes_up: int) -> Observation:
    if quality in {Quality.MISSING, Quality.STALE}:
        # Old figures under a new time would be taken for facts of this window.
        return Observation(window_end=fetch.at, window_s=fetch.window_s, quality=quality, nodes_up=nodes_up)
    values: dict[str, float | int] = {name: value for name, value in facts.items() if name in FACTS}
    values |= {rate: facts[count] / fetch.window_s for count, rate in _RATES.items() if count in facts}
    values["nodes_up"] = nodes_up
    return Observation.from_json(fetch.at, fetch.window_s, quality, values)


def _pool_quality(nodes: Sequence[Quality]) -> Quality:
    if not nodes:
        return Quality.MISSING
    if all(quality is Quality.OK for quality in nodes):
        return Quality.OK
    if any(quality in {Quality.OK, Quality.PARTIAL} for quality in nodes):
        return Quality.PARTIAL
    return Quality.STALE if Quality.STALE in nodes else Quality.MISSING
