"""Every PromQL expression that we ask, by the fact it answers. Prometheus 2.42 is enough; metric names come from the contract.

Each expression is aggregated by a `Grouping`, so that one query answers for all nodes of all pools, and a second one for all
pools. Windows go through `increase()`, which sees counter resets (a restarted node) and fills the window's ends by extrapolation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from inference_node.contract import metrics
from inference_node.contract.metrics import MetricSpec


class Grouping(StrEnum):
    """By which labels (those of our http_sd targets) the answer is split."""

    NODE = "node_id"
    POOL = "fleet, pool"


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """Which metric of an engine holds which fact. Another engine is another table; the queries stay.

    counters: fact -> counter, reported as its increase in the window. gauges: fact -> gauge, summed. means: the
    same, averaged. ratios: fact -> (counter, counter), the quotient of their increases. quantiles: fact -> (histogram, q).
    ttft and itl: the histograms of these among them that are held against the objectives.
    """

    name: str
    counters: Mapping[str, str]
    gauges: Mapping[str, str]
    means: Mapping[str, str]
    ratios: Mapping[str, tuple[str, str]]
    quantiles: Mapping[str, tuple[str, float]]
    ttft: str
    itl: str
    selector: str = field(default='node_id!=""')


def _sum(spec: MetricSpec) -> str:
    return f"{spec.name}_sum"


def _count(spec: MetricSpec) -> str:
    return f"{spec.name}_count"


TRIMTAB = EngineAdapter(
    name="trimtab",
    counters={
        "offered": metrics.REQUESTS_OFFERED.name,
        "prompt_tokens": metrics.PROMPT_TOKENS.name,
        "generation_tokens": metrics.GENERATION_TOKENS.name,
        "requests": metrics.REQUEST_SUCCESS.name,
        "errors": metrics.REQUEST_ERRORS.name,
        "rejected": metrics.REQUESTS_REJECTED.name,
    },
    gauges={"running": metrics.NUM_REQUESTS_RUNNING.name, "waiting": metrics.NUM_REQUESTS_WAITING.name},
    means={"kv_usage": metrics.KV_CACHE_USAGE.name},
    ratios={
        "step_mean_s": (_sum(metrics.STEP_SECONDS), _count(metrics.STEP_SECONDS)),
        "decode_rows_mean": (metrics.STEP_DECODE_ROWS.name, metrics.STEPS.name),
        "prefill_tokens_mean": (metrics.STEP_PREFILL_TOKENS.name, metrics.STEPS.name),
        "prefix_hit_ratio": (metrics.PREFIX_CACHE_HITS.name, metrics.PREFIX_CACHE_QUERIES.name),
        "prompt_tokens_mean": (_sum(metrics.REQUEST_PROMPT_TOKENS), _count(metrics.REQUEST_PROMPT_TOKENS)),
        "generation_tokens_mean": (_sum(metrics.REQUEST_GENERATION_TOKENS), _count(metrics.REQUEST_GENERATION_TOKENS)),
    },
    quantiles={
        "ttft_p50_s": (metrics.TTFT.name, 0.5),
        "ttft_p95_s": (metrics.TTFT.name, 0.95),
        "itl_p50_s": (metrics.ITL.name, 0.5),
        "itl_p95_s": (metrics.ITL.name, 0.95),
        "e2e_p95_s": (metrics.E2E_LATENCY.name, 0.95),
        "queue_p95_s": (metrics.QUEUE_TIME.name, 0.95),
    },
    ttft=metrics.TTFT.name,
    itl=metrics.ITL.name,
)

# Facts of the scrape itself, told by Prometheus and not by the engine.
UP, AGE = "up", "age"
# Without these a window cannot carry a decision; latencies are rightly absent when no request finished.
NEEDED = ("offered", "running", "waiting")


def expressions(adapter: EngineAdapter, grouping: Grouping, window_s: float) -> dict[str, str]:
    """fact -> PromQL, of all but quantiles."""
    where, by, grown = _parts(adapter, grouping, window_s)
    found = {fact: grown(metric) for fact, metric in adapter.counters.items()}
    found |= {fact: f"sum {by} ({metric}{where})" for fact, metric in adapter.gauges.items()}
    found |= {fact: f"avg {by} ({metric}{where})" for fact, metric in adapter.means.items()}
    found |= {fact: f"{grown(top)} / {grown(bottom)}" for fact, (top, bottom) in adapter.ratios.items()}
    return found


def quantiles(adapter: EngineAdapter, grouping: Grouping, window_s: float) -> dict[str, str]:
    """fact -> PromQL, of quantiles that Prometheus is to compute."""
    grown = buckets(adapter, grouping, window_s)
    return {fact: f"histogram_quantile({q:g}, {grown[name]})" for fact, (name, q) in adapter.quantiles.items()}


def buckets(adapter: EngineAdapter, grouping: Grouping, window_s: float) -> dict[str, str]:
    """histogram -> PromQL of its buckets, by `le`: for few groups, to read several quantiles from them.

    What each bucket grew by is most of what Prometheus has to count, and PromQL would have it counted for each quantile anew.
    """
    where, _, _ = _parts(adapter, grouping, window_s)
    return {
        histogram: f"sum by ({grouping.value}, le) (increase({histogram}_bucket{where}{_window(window_s)}))"
        for histogram, _ in adapter.quantiles.values()
    }


def health(adapter: EngineAdapter, window_s: float) -> dict[str, str]:
    """fact -> PromQL, by node: what tells whether its figures can be trusted, and nothing that takes long."""
    where, by, _ = _parts(adapter, Grouping.NODE, window_s)
    found = {fact: said for fact, said in expressions(adapter, Grouping.NODE, window_s).items() if fact in NEEDED}
    found[UP] = f"min {by} (up{where})"
    found[AGE] = f"time() - max {by} (timestamp(up{where}))"
    return found


def _parts(adapter: EngineAdapter, grouping: Grouping, window_s: float) -> tuple[str, str, Callable[[str], str]]:
    where, by, window = f"{{{adapter.selector}}}", f"by ({grouping.value})", _window(window_s)
    return where, by, lambda metric: f"sum {by} (increase({metric}{where}{window}))"


def _window(window_s: float) -> str:
    """In milliseconds, since PromQL has no fractional durations."""
    return f"[{round(window_s * 1000)}ms]"


def batches(named: Mapping[str, str], *, limit: int = 4000) -> Iterator[str]:
    """Joins expressions into few queries of at most `limit` characters; each answer carries its fact in the label `fact`.

    The limit keeps a query, which the client library sends in the URL, below what proxies refuse (8 kB after encoding).
    """
    batch: list[str] = []
    for fact, expression in named.items():
        tagged = f'label_replace({expression}, "fact", "{fact}", "", "")'
        if batch and sum(map(len, batch)) + 4 * len(batch) + len(tagged) > limit:
            yield " or ".join(batch)
            batch = []
        batch.append(tagged)
    if batch:
        yield " or ".join(batch)
