"""The node's own metrics as numbers, and what happened between two readings of them."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry

from inference_node.contract.history import RECORDED, NodeWindow
from inference_node.contract.metrics import MetricKind

_GAUGES = {spec.name for spec in RECORDED if spec.kind is MetricKind.GAUGE}
_GROWING = {spec.name for spec in RECORDED if spec.kind is MetricKind.COUNTER} | {
    f"{spec.name}{part}" for spec in RECORDED if spec.kind is MetricKind.HISTOGRAM for part in ("_sum", "_count")
}
_BUCKETS = {f"{spec.name}_bucket": spec.name for spec in RECORDED if spec.kind is MetricKind.HISTOGRAM}


@dataclass(frozen=True, slots=True)
class Readings:
    """By metric, summed over its series: counters, gauges, and histograms' buckets by `le`."""

    counters: dict[str, float] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, dict[str, float]] = field(default_factory=dict)


def read(registry: CollectorRegistry) -> Readings:
    """As of now. Takes about a millisecond; safe from any thread."""
    counters: dict[str, float] = defaultdict(float)
    gauges: dict[str, float] = defaultdict(float)
    buckets: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in _GROWING:
                counters[sample.name] += sample.value
            elif sample.name in _GAUGES:
                gauges[sample.name] += sample.value
            elif (histogram := _BUCKETS.get(sample.name)) is not None:
                buckets[histogram][sample.labels["le"]] += sample.value
    return Readings(dict(counters), dict(gauges), {name: dict(counts) for name, counts in buckets.items()})


def window_between(before: Readings, after: Readings, end: datetime, window_s: float) -> NodeWindow:
    """The window from one reading to a later one of the same process."""
    buckets = {name: _grown(before.buckets.get(name, {}), counts) for name, counts in after.buckets.items()}
    return NodeWindow(
        end=end,
        window_s=window_s,
        increases=_grown(before.counters, after.counters),
        gauges=after.gauges,
        # A histogram that moved is told whole: a bound without an increase is still a bound.
        buckets={name: counts for name, counts in buckets.items() if any(counts.values())},
    )


def _grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {key: value - before.get(key, 0.0) for key, value in after.items()}
