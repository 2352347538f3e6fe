"""What each replica of a node does, as Prometheus series, read at each scrape. Their sums are the node's other metrics."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from inference_node.contract import metrics as names
from inference_node.contract.metrics import MetricKind, MetricSpec
from inference_node.engine.serving import EngineStats, ReplicaStats

# Each metric and its value.
_VALUES: Final[dict[MetricSpec, Callable[[ReplicaStats], float]]] = {
    names.REPLICA_RUNNING: lambda one: one.running,
    names.REPLICA_WAITING: lambda one: one.waiting,
    names.REPLICA_KV_USAGE: lambda one: one.blocks_used / one.blocks_total,
    names.REPLICA_STEPS: lambda one: one.steps,
    names.REPLICA_TAKEN_OVER: lambda one: one.taken_over,
}
REPLICA: Final = tuple(_VALUES)


class ReplicaCollector(Collector):
    """One family for each of REPLICA, with a series for each replica."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._stats: Callable[[], EngineStats] | None = None

    def bind(self, stats: Callable[[], EngineStats]) -> None:
        """stats must be quick and safe from any thread. Before, there are families without series."""
        self._stats = stats

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        replicas = () if self._stats is None else self._stats().replicas
        for spec, value in _VALUES.items():
            make = CounterMetricFamily if spec.kind is MetricKind.COUNTER else GaugeMetricFamily
            family = make(spec.name, spec.help, labels=spec.labels)
            for one in replicas:
                family.add_metric((self._model, str(one.number)), value(one))
            yield family
