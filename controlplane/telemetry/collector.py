"""Asks Prometheus and makes validated observations of the answers.

One fetch covers all pools: calls with the same (`at`, `window_s`) share it, so a controller with many pools pays once a tick.
What pools did and whether their nodes answer is one fetch, which decisions wait for; what each node did is another.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from controlplane.telemetry.histograms import bucket_quantile, count_above
from controlplane.telemetry.observation import FACTS, NodeRef, Objectives, Observation, PoolRef, Quality, finite
from controlplane.telemetry.prometheus import Sample
from controlplane.telemetry.queries import (
    AGE,
    NEEDED,
    TRIMTAB,
    UP,
    EngineAdapter,
    Grouping,
    batches,
    buckets,
    expressions,
    health,
    quantiles,
)

Facts = Mapping[str, float]
_QUESTIONS_AT_ONCE = 4

_RATES = {
    "offered": "offered_rps",
    "prompt_tokens": "prompt_tokens_per_s",
    "generation_tokens": "generation_tokens_per_s",
}


class Querier(Protocol):
    """Asked from several threads at a time."""

    def query(self, promql: str, at: datetime) -> list[Sample]: ...


@dataclass(frozen=True, slots=True)
class _Window:
    at: datetime
    window_s: float


@dataclass(slots=True)
class _Group:
    """What was answered of a pool or a node: facts by name, and of pools histogram -> upper bound -> observations up to it."""

    facts: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)


_Groups = dict[tuple[str, ...], _Group]
_NOTHING = _Group()


class _Asked:
    """Questions about one window, answered side by side. An answer that failed fails for everybody who wants it."""

    def __init__(self, window: _Window, parts: Iterable[Future[_Groups]]) -> None:
        self.window, self._parts = window, tuple(parts)
        self._found: _Groups | None = None

    def answers(self) -> _Groups:
        """Waits for them. Raises what a question raised."""
        if self._found is None:
            found: _Groups = {}
            for part in self._parts:
                for labels, group in part.result().items():
                    whole = found.setdefault(labels, _Group())
                    whole.facts.update(group.facts)
                    whole.buckets.update(group.buckets)
            self._found = found
        return self._found


class Collector:
    """Not thread-safe: it keeps the last answers. `scrape_interval_s` is what "stale" is measured in (three of them)."""

    def __init__(
        self, prometheus: Querier, *, scrape_interval_s: float = 5.0, adapter: EngineAdapter = TRIMTAB
    ) -> None:
        self._prometheus = prometheus
        self._stale_after_s = 3 * scrape_interval_s
        self._adapter = adapter
        self._pools: tuple[_Asked, _Asked] | None = None
        self._nodes: _Asked | None = None
        # Threads for good: the client keeps a connection for each that asks. Prometheus answers each question on one core.
        self._beside = ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="collect")

    def begin(self, at: datetime, window_s: float) -> None:
        """Asks for the pools' windows without waiting for the answer, which `collect_pool` does."""
        window = _Window(at, window_s)
        if self._pools is not None and self._pools[0].window == window:
            return
        grouping, adapter = Grouping.POOL, self._adapter
        # Buckets take Prometheus longer than all the rest.
        grown = [
            self._beside.submit(self._quantiles, window, {histogram: expression})
            for histogram, expression in buckets(adapter, grouping, window_s).items()
        ]
        facts = self._beside.submit(self._ask, grouping, expressions(adapter, grouping, window_s), window)
        trust = self._beside.submit(self._ask, Grouping.NODE, health(adapter, window_s), window)
        self._pools = _Asked(window, (facts, *grown)), _Asked(window, (trust,))

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        """The pool's window ending `at`. nodes: all of its. objectives: what slow is; without, nothing is counted as slow or
        not. Raises PrometheusUnavailable."""
        self.begin(at, window_s)
        assert self._pools is not None
        pools, trust = (asked.answers() for asked in self._pools)
        found = [self._quality(trust.get((node.id,), _NOTHING).facts) for node in nodes]
        quality = _pool_quality(found)
        group = pools.get((pool.fleet, pool.name), _NOTHING)
        facts = group.facts if objectives is None else group.facts | self._slow(group, objectives)
        if quality in {Quality.OK, Quality.PARTIAL} and not all(name in facts for name in NEEDED):
            quality = Quality.MISSING
        return _observation(_Window(at, window_s), quality, facts, sum(map(_answers, found)))

    def collect_nodes(self, nodes: Iterable[NodeRef], at: datetime, window_s: float) -> dict[str, Observation]:
        """Node id -> its window ending `at`. Raises PrometheusUnavailable."""
        window, grouping, adapter = _Window(at, window_s), Grouping.NODE, self._adapter
        if self._nodes is None or self._nodes.window != window:
            plain = expressions(adapter, grouping, window_s) | health(adapter, window_s)
            asked = (plain, quantiles(adapter, grouping, window_s))
            self._nodes = _Asked(window, [self._beside.submit(self._ask, grouping, each, window) for each in asked])
        try:
            answers = self._nodes.answers()
        except BaseException:
            self._nodes = None  # past windows are asked for again until they are known
            raise
        found = {}
        for node in nodes:
            facts = answers.get((node.id,), _NOTHING).facts
            quality = self._quality(facts)
            found[node.id] = _observation(window, quality, facts, int(_answers(quality)))
        return found

    def _quality(self, facts: Facts) -> Quality:
        """Of a node's window."""
        if not facts.get(UP):
            return Quality.MISSING
        if facts.get(AGE, 0.0) > self._stale_after_s:
            return Quality.STALE
        if all(name in facts for name in NEEDED):
            return Quality.OK
        return Quality.PARTIAL if any(name in facts for name in NEEDED) else Quality.MISSING

    def _slow(self, group: _Group, objectives: Objectives) -> dict[str, float]:
        """How many first tokens and gaps there were, and how many of them took longer than they may."""
        found = {}
        for name, histogram, limit_s in (
            ("ttft", self._adapter.ttft, objectives.ttft_s),
            ("itl", self._adapter.itl, objectives.itl_s),
        ):
            counted = count_above(limit_s, group.buckets.get(histogram, {}))
            if counted is not None:
                found[f"{name}_slow"], found[f"{name}_count"] = counted
        return found

    def _quantiles(self, window: _Window, named: Mapping[str, str]) -> _Groups:
        """Of pools, read from their buckets, which stay beside them; named: histogram -> its question."""
        grouping, adapter = Grouping.POOL, self._adapter
        counts: dict[tuple[tuple[str, ...], str], dict[float, float]] = defaultdict(dict)
        for labels, histogram, sample in self._samples(grouping, named, window):
            bound, value = sample.labels.get("le"), finite(sample.value)
            if bound is not None and value is not None:
                counts[labels, histogram][float(bound)] = value
        found: _Groups = defaultdict(_Group)
        for (labels, histogram), of_bounds in counts.items():
            found[labels].buckets[histogram] = of_bounds
            for fact, (name, q) in adapter.quantiles.items():
                if name == histogram and (value := bucket_quantile(q, of_bounds)) is not None:
                    found[labels].facts[fact] = value
        return found

    def _ask(self, grouping: Grouping, named: Mapping[str, str], window: _Window) -> _Groups:
        found: _Groups = defaultdict(_Group)
        for labels, fact, sample in self._samples(grouping, named, window):
            value = finite(sample.value)
            if value is not None:
                found[labels].facts[fact] = value
        return found

    def _samples(
        self, grouping: Grouping, named: Mapping[str, str], window: _Window
    ) -> Iterable[tuple[tuple[str, ...], str, Sample]]:
        """(the group, what was asked, the answer), of every answer."""
        keys = grouping.value.split(", ")
        for query in batches(named):
            for sample in self._prometheus.query(query, window.at):
                yield tuple(sample.labels.get(key, "") for key in keys), sample.labels["fact"], sample


def _answers(quality: Quality) -> bool:
    return quality in {Quality.OK, Quality.PARTIAL}


def _observation(window: _Window, quality: Quality, facts: Facts, nodes_up: int) -> Observation:
    return observation_of(window.at, window.window_s, quality, facts, nodes_up)


def observation_of(end: datetime, window_s: float, quality: Quality, facts: Facts, nodes_up: int) -> Observation:
    """By fact, with the counts that are told as rates still as counts in the window."""
    if quality in {Quality.MISSING, Quality.STALE}:
        # Old figures under a new time would be taken for facts of this window.
        return Observation(window_end=end, window_s=window_s, quality=quality, nodes_up=nodes_up)
    values: dict[str, float | int] = {name: value for name, value in facts.items() if name in FACTS}
    values |= {rate: facts[count] / window_s for count, rate in _RATES.items() if count in facts}
    values["nodes_up"] = nodes_up
    return Observation.from_json(end, window_s, quality, values)


def _pool_quality(nodes: Sequence[Quality]) -> Quality:
    if not nodes:
        return Quality.MISSING
    if all(quality is Quality.OK for quality in nodes):
        return Quality.OK
    if any(quality in {Quality.OK, Quality.PARTIAL} for quality in nodes):
        return Quality.PARTIAL
    return Quality.STALE if Quality.STALE in nodes else Quality.MISSING
