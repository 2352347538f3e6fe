"""One window of facts about a pool or a node, validated: what decisions, canary analysis and charts are made of.

Absent is `None`, never 0 and never NaN: a window without a finished request has no latency, and says so.
"""

import math
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class Quality(StrEnum):
    """How far a window can be trusted.

    ok: each node answered and is fresh. partial: some did. stale: the newest sample is older than three scrapes.
    missing: nothing is known. Only `ok` and `partial` may lead to a change.
    """

    OK = "ok"
    PARTIAL = "partial"
    MISSING = "missing"
    STALE = "stale"


# A change may rest on these.
USABLE = frozenset({Quality.OK, Quality.PARTIAL})


@dataclass(frozen=True, slots=True)
class PoolRef:
    """What telemetry needs to know of a pool: names are Prometheus labels, the id is the key in SQL."""

    id: str
    name: str
    fleet: str


@dataclass(frozen=True, slots=True)
class NodeRef:
    """What telemetry needs to know of a node; `id` is the label `node_id`."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Objectives:
    """How long a first token and the gap between two tokens may take, in seconds: what counts as slow in a pool's window."""

    ttft_s: float
    itl_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """Facts of the half-open window (window_end - window_s, window_end].

    Rates are per second and latencies seconds, over the window; `requests`, `errors` and `rejected` are counts in it (fractions
    occur, since Prometheus extrapolates to the window's ends); `running`, `waiting` and `kv_usage` are gauges at its end. Of a
    pool, rates and gauges are sums over its nodes (kv_usage and ratios: means), quantiles are over all its requests.
    `offered_rps` counts arrivals, admitted or not: completions would hide an overload. `ttft_count` and `itl_count` are first
    tokens and gaps between tokens in the window, `ttft_slow` and `itl_slow` those of them that took longer than the objectives
    of then; of pools only.
    """

    window_end: datetime
    window_s: float
    quality: Quality
    offered_rps: float | None = None
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    requests: float | None = None
    errors: float | None = None
    rejected: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    itl_p50_s: float | None = None
    itl_p95_s: float | None = None
    e2e_p95_s: float | None = None
    queue_p95_s: float | None = None
    step_mean_s: float | None = None
    decode_rows_mean: float | None = None
    prefill_tokens_mean: float | None = None
    prefix_hit_ratio: float | None = None
    prompt_tokens_mean: float | None = None
    generation_tokens_mean: float | None = None
    ttft_count: float | None = None
    ttft_slow: float | None = None
    itl_count: float | None = None
    itl_slow: float | None = None
    nodes_up: int | None = None

    @property
    def usable(self) -> bool:
        """Whether a change may rest on it."""
        return self.quality in USABLE

    def to_json(self) -> dict[str, Any]:
        """Facts only (window and quality have columns of their own); absent ones are left out."""
        names = FACTS
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, window_end: datetime, window_s: float, quality: str, facts: dict[str, Any]) -> Self:
        """Back from a row; facts that this version does not know are ignored."""
        known = {name: facts[name] for name in FACTS if facts.get(name) is not None}
        return cls(window_end=window_end, window_s=window_s, quality=Quality(quality), **known)


FACTS: tuple[str, ...] = tuple(
    f.name for f in fields(Observation) if f.name not in {"window_end", "window_s", "quality"}
)


def missing(window_end: datetime, window_s: float) -> Observation:
    """The window about which nothing is known, for instance because Prometheus does not answer."""
    return Observation(window_end=window_end, window_s=window_s, quality=Quality.MISSING)


def finite(value: float | str | None) -> float | None:
    """A number that may be reasoned with, or None for absent, NaN, infinite and negative (no fact here can be below 0)."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) and number >= 0 else None
