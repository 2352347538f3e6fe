"""Every PromQL expression that we ask, by the fact it answers. Prometheus 2.42 is enough; metric names come from the contract.

Each expression is aggregated by a `Grouping`, so that one query answers for all nodes of all pools, and a second one for all
pools. Windows go through `increase()`, which sees counter resets (a restarted node) and fills the window's ends by extrapolation.
"""

from collections.abc import Iterator, Mapping
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
    """

    name: str
    counters: Mapping[str, str]
    gauges: Mapping[str, str]
    means: Mapping[str, str]
    ratios: Mapping[str, tuple[str, str]]
    quantiles: Mapping[str, tuple[str, float]]
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
)

# Facts of the scrape itself, told by Prometheus and not by the engine.
UP, AGE = "up", "age"


def expressions(adapter: EngineAdapter, grouping: Grouping, window_s: float) -> dict[str, str]:
    """fact -> PromQL. The window is rendered in milliseconds, since PromQL has no fractional durations."""
    where, by = f"{{{adapter.selector}}}", f"by ({grouping.value})"
    window = f"[{round(window_s * 1000)}ms]"

    def grown(metric: str) -> str:
        return f"sum {by} (increase({metric}{where}{window}))"

    found = {fact: grown(metric) for fact, metric in adapter.counters.items()}
    found |= {fact: f"sum {by} ({metric}{where})" for fact, metric in adapter.gauges.items()}
    found |= {fact: f"avg {by} ({metric}{where})" for fact, metric in adapter.means.items()}
    found |= {fact: f"{grown(top)} / {grown(bottom)}" for fact, (top, bottom) in adapter.ratios.items()}
    for fact, (histogram, q) in adapter.quantiles.items():
        buckets = f"sum by ({grouping.value}, le) (increase({histogram}_bucket{where}{window}))"
        found[fact] = f"histogram_quantile({q:g}, {buckets})"
    if grouping is Grouping.NODE:
        found[UP] = f"min {by} (up{where})"
        found[AGE] = f"time() - max {by} (timestamp(up{where}))"
    return found


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
