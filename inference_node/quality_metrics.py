"""The node's quality records as Prometheus series, made at each scrape: a void record takes its series with it."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference_node.contract import metrics as names
from inference_node.contract.quality import NodeQuality

QUALITY: Final = (names.QUALITY_PERPLEXITY, names.QUALITY_KL, names.QUALITY_TOP1, names.QUALITY_CERTIFIED)


class QualityCollector(Collector):
    """One family for each of QUALITY, with a series for each measured level."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._quality: Callable[[], NodeQuality] | None = None

    def bind(self, quality: Callable[[], NodeQuality]) -> None:
        """quality must be quick and safe from any thread. Before, there are families without series."""
        self._quality = quality

    def collect(self) -> Iterator[GaugeMetricFamily]:
        figures = [] if self._quality is None else _figures(self._quality())
        for spec in QUALITY:
            family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
            for level, values in figures:
                family.add_metric((self._model, *level), values[spec.name])
            yield family


def _figures(quality: NodeQuality) -> list[tuple[tuple[str, str, str], dict[str, float]]]:
    """For each record its level, and its value of each metric."""
    return [
        (
            (record.precision.value, record.kv_precision.value, f"{record.pruning_threshold:g}"),
            {
                names.QUALITY_PERPLEXITY.name: record.perplexity_ratio,
                names.QUALITY_KL.name: record.kl_mean,
                names.QUALITY_TOP1.name: record.top1_agreement,
                names.QUALITY_CERTIFIED.name: float(quality.holds(record)),
            },
        )
        for record in quality.records
    ]
