"""The node's Prometheus collectors: one for each entry of `contract/metrics.py`, fed by the engine as its listener.

Every series exists from the start at 0, so that a rate over it is right from the first event on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from inference_node.contract import metrics as names
from inference_node.contract.messages import LAPSED, AckOutcome, NodeHardware, RejectCode
from inference_node.contract.metrics import MetricKind, MetricSpec
from inference_node.contract.quality import NodeQuality
from inference_node.contract.settings import KNOBS, EngineSettings
from inference_node.engine.listener import RequestRecord, StepRecord
from inference_node.engine.requests import FinishReason
from inference_node.engine.serving import EngineStats
from inference_node.histogram import BatchHistogram
from inference_node.quality_metrics import QUALITY, QualityCollector
from inference_node.replica_metrics import REPLICA, ReplicaCollector
from inference_node.roofline import Roofline

# vLLM's words for how a request ended.
_FINISHED: Final = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CANCELLED: "abort",
    FinishReason.ERROR: "error",
}
# Causes of 5xx answers; the engine's own words for a failed step are all `engine`, since a label must stay bounded.
ERROR_CAUSES: Final = ("engine", "starting", "draining", "internal")
CUT_CAUSES: Final = ("slow_reader", "slow_request", "headers", "connections", "malformed")
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OUTCOMES: Final = (*(outcome.value for outcome in AckOutcome), *(code.value for code in RejectCode), LAPSED)
_ERROR_PERCENTILES: Final = ("50", "95")
_NUMBERS: Final = tuple(knob.name for knob in KNOBS.values() if knob.kind != "choice")
_CHOICES: Final = tuple(knob.name for knob in KNOBS.values() if knob.kind == "choice")


class NodeMetrics:
    """All collectors of one node, on a registry of their own. Is an `EngineListener`; safe from any thread."""

    def __init__(self, model_name: str, version: str) -> None:
        # Their timestamps double the series for nothing; the switch is one for the process.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's own omission
        self.registry = CollectorRegistry(auto_describe=True)
        self._model = model_name
        self._version = version
        self._roofline = Roofline(0.0, 0.0)
        self._watching: tuple[Callable[[StepRecord], None], ...] = ()
        self._families: dict[str, MetricWrapperBase | BatchHistogram] = {
            s.name: self._make(s) for s in names.ALL if s not in (*QUALITY, *REPLICA)
        }
        self._replicas = ReplicaCollector(model_name)
        self.registry.register(self._replicas)
        self._quality = QualityCollector(model_name)
        self.registry.register(self._quality)
        # Looking a series up by its labels costs more than counting in it, and steps count a dozen times.
        self._children: dict[tuple[str, ...], MetricWrapperBase] = {}
        self._precreate()

    # What the server binds and tells ----------------------------------------------------------------------------

    def bind(
        self,
        stats: Callable[[], EngineStats],
        generation: Callable[[], int],
        hardware: NodeHardware,
        settings: EngineSettings,
    ) -> None:
        """Read the engine's gauges at each scrape from now on. `stats` must be cheap and safe from any thread."""
        now = stats()
        self._replicas.bind(stats)
        self._gauge(names.NUM_REQUESTS_RUNNING).set_function(lambda: stats().running)
        self._gauge(names.NUM_REQUESTS_WAITING).set_function(lambda: stats().waiting)
        self._gauge(names.KV_CACHE_USAGE).set_function(lambda: stats().kv_usage)
        self._gauge(names.PRUNED_RATIO).set_function(lambda: stats().pruned_ratio)
        self._gauge(names.SETTINGS_GENERATION).set_function(generation)
        self._roofline = Roofline(hardware.read_bytes_per_s, max(hardware.flops_per_s.values(), default=0.0))
        self._gauge(names.ROOFLINE_BYTES).set(self._roofline.bytes_per_s)
        self._gauge(names.ROOFLINE_FLOPS).set(self._roofline.flops_per_s)
        self._gauge(names.ROOFLINE_RATIO).set_function(lambda: self._roofline.ratio)
        self._set_info(names.CACHE_CONFIG, (str(now.block_size), str(now.blocks_total)))
        self._set_info(names.BUILD, (self._version, hardware.device))
        self.on_settings_applied(settings, now.step, ())

    def bind_step_error(self, error: Callable[[], tuple[float, float] | None]) -> None:
        """Read the step model's error, (median, 95 % quantile), at each scrape from now on."""
        for place, percentile in enumerate(_ERROR_PERCENTILES):
            self._gauge(names.STEP_MODEL_ERROR, percentile).set_function(partial(_part, error, place))

    def bind_quality(self, quality: Callable[[], NodeQuality]) -> None:
        """Read the quality records at each scrape from now on. A level has series once it was measured."""
        self._quality.bind(quality)

    def bind_ready(self, is_ready: Callable[[], bool]) -> None:
        self._gauge(names.READY).set_function(lambda: float(is_ready()))

    def count_change(self, outcome: str) -> None:
        """A push or edit was answered; outcome is an AckOutcome's or a RejectCode's word, or LAPSED."""
        self._counter(names.SETTINGS_CHANGES, outcome).inc()

    def count_error(self, cause: str) -> None:
        """A request got a server error (5xx); cause is one of ERROR_CAUSES."""
        self._counter(names.REQUEST_ERRORS, cause if cause in ERROR_CAUSES else "internal").inc()

    def count_cut(self, cause: str) -> None:
        """A client's connection was closed for what it did; cause is one of CUT_CAUSES."""
        self._counter(names.CONNECTIONS_CUT, cause).inc()

    def expose(self, accept: str, prefix: str = "") -> tuple[bytes, str]:
        """(body, content type) in the format that `accept` asks for; only names that start with `prefix`."""
        registry: CollectorRegistry | _Only = _Only(self.registry, prefix) if prefix else self.registry
        if "application/openmetrics-text" in accept:
            # Not by the library's own choice: prometheus_client 0.26 there turns the colon of vLLM's names into an underscore.
            return openmetrics.generate_latest(registry, escaping=openmetrics.ALLOWUTF8), _OPENMETRICS  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    @contextmanager
    def watch_steps(self, watch: Callable[[StepRecord], None]) -> Iterator[None]:
        """While it is entered, `watch` is told of each step too, on the engine's thread."""
        self._watching = (*self._watching, watch)
        try:
            yield
        finally:
            self._watching = tuple(each for each in self._watching if each is not watch)

    # EngineListener ---------------------------------------------------------------------------------------------

    def on_request_offered(self, num_prompt_tokens: int) -> None:
        self._counter(names.REQUESTS_OFFERED).inc()
        self._counter(names.PROMPT_TOKENS_OFFERED).inc(num_prompt_tokens)

    def on_request_rejected(self, reason: str) -> None:
        if reason == "queue_full":
            self._counter(names.REQUESTS_REJECTED).inc()

    def on_step(self, record: StepRecord) -> None:
        self._counter(names.STEPS).inc()
        self._histogram(names.STEP_SECONDS).observe(record.duration_s)
        for spec, amount in (
            (names.STEP_DECODE_ROWS, record.decode_rows),
            (names.STEP_PREFILL_TOKENS, record.prefill_tokens),
            (names.PROMPT_TOKENS, record.prefill_tokens + record.prefix_hits),
            (names.GENERATION_TOKENS, record.generated_tokens),
            (names.NUM_PREEMPTIONS, record.preemptions),
            (names.PREFIX_CACHE_QUERIES, record.prefix_queries),
            (names.PREFIX_CACHE_HITS, record.prefix_hits),
            (names.STEP_BYTES, record.work_bytes),
            (names.STEP_FLOPS, record.work_flops),
        ):
            if amount:
                self._counter(spec).inc(amount)
        for watch in self._watching:
            watch(record)
        self._roofline.add(record.work_bytes, record.work_flops, record.duration_s)

    def on_token_times(self, first_token_s: Sequence[float], inter_token_s: Sequence[float]) -> None:
        if first_token_s:
            self._histogram(names.TTFT).observe_all(first_token_s)
        if inter_token_s:
            self._histogram(names.ITL).observe_all(inter_token_s)

    def on_request_finished(self, record: RequestRecord) -> None:
        self._counter(names.REQUEST_SUCCESS, _FINISHED[record.finish_reason]).inc()
        if record.finish_reason is FinishReason.ERROR:
            self.count_error("engine")
        elif record.finish_reason is FinishReason.CANCELLED:
            self._counter(names.REQUESTS_CANCELLED).inc()
        else:
            self._observe_whole(record)

    def on_settings_applied(self, settings: EngineSettings, step: int, changed: Sequence[str]) -> None:
        values = settings.model_dump(mode="json")
        for name in _NUMBERS:
            self._gauge(names.SETTINGS_KNOB, name).set(float(values[name]))
        self._set_info(names.SETTINGS_INFO, tuple(str(values[name]) for name in names.SETTINGS_INFO.labels[1:]))

    # ------------------------------------------------------------------------------------------------------------

    def _observe_whole(self, record: RequestRecord) -> None:
        """Latencies and lengths of a request that ran to its end; a cancelled one would flatter them."""
        timing = record.timing
        for spec, seconds in (
            (names.QUEUE_TIME, timing.queue_s),
            (names.PREFILL_TIME, timing.prefill_s),
            (names.DECODE_TIME, timing.decode_s),
            (names.E2E_LATENCY, timing.e2e_s),
        ):
            if seconds is not None:
                self._histogram(spec).observe(seconds)
        self._histogram(names.REQUEST_PROMPT_TOKENS).observe(record.num_prompt_tokens)
        self._histogram(names.REQUEST_GENERATION_TOKENS).observe(record.num_generated_tokens)

    def _make(self, spec: MetricSpec) -> MetricWrapperBase | BatchHistogram:
        match spec.kind:
            case MetricKind.COUNTER:
                return Counter(spec.name, spec.help, spec.labels, registry=self.registry)
            case MetricKind.HISTOGRAM:
                histogram = BatchHistogram(spec.name, spec.help, spec.labels, (self._model,), spec.buckets)
                self.registry.register(histogram)
                return histogram
            case MetricKind.GAUGE | MetricKind.INFO:  # an info is a gauge of 1, as vLLM has it and PromQL joins it
                return Gauge(spec.name, spec.help, spec.labels, registry=self.registry)

    def _precreate(self) -> None:
        extra: dict[str, Sequence[str]] = {
            names.REQUEST_SUCCESS.name: tuple(_FINISHED.values()),
            names.REQUEST_ERRORS.name: ERROR_CAUSES,
            names.CONNECTIONS_CUT.name: CUT_CAUSES,
            names.SETTINGS_CHANGES.name: _OUTCOMES,
            names.SETTINGS_KNOB.name: _NUMBERS,
            names.STEP_MODEL_ERROR.name: _ERROR_PERCENTILES,
        }
        for spec in names.ALL:
            if spec.kind in (MetricKind.INFO, MetricKind.HISTOGRAM) or spec in (*QUALITY, *REPLICA):
                continue  # an info's labels are its value, known only once the engine stands; histograms exist
            for value in extra.get(spec.name, (None,)):
                self._child(spec, *([] if value is None else [value]))

    def _child(self, spec: MetricSpec, *labels: str) -> MetricWrapperBase:
        key = (spec.name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._family(spec).labels(self._model, *labels)
            if spec.kind is not MetricKind.INFO:  # those come and go
                self._children[key] = child
        return child

    def _counter(self, spec: MetricSpec, *labels: str) -> Counter:
        child = self._child(spec, *labels)
        assert isinstance(child, Counter)
        return child

    def _gauge(self, spec: MetricSpec, *labels: str) -> Gauge:
        child = self._child(spec, *labels)
        assert isinstance(child, Gauge)
        return child

    def _histogram(self, spec: MetricSpec) -> BatchHistogram:
        histogram = self._families[spec.name]
        assert isinstance(histogram, BatchHistogram)
        return histogram

    def _family(self, spec: MetricSpec) -> MetricWrapperBase:
        family = self._families[spec.name]
        assert isinstance(family, MetricWrapperBase)
        return family

    def _set_info(self, spec: MetricSpec, labels: tuple[str, ...]) -> None:
        """The new series first, then the old ones go: a scrape in between sees two rather than none."""
        wanted = (self._model, *labels)
        self._gauge(spec, *labels).set(1)
        family = self._family(spec)
        for sample in [sample for metric in family.collect() for sample in metric.samples]:
            if (have := tuple(sample.labels[name] for name in spec.labels)) != wanted:
                family.remove(*have)


def _part(error: Callable[[], tuple[float, float] | None], place: int) -> float:
    found = error()
    return 0.0 if found is None else found[place]


class _Only(Collector):
    """The families of a registry whose names start with a prefix."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self._registry, self._prefix = registry, prefix

    def collect(self):  # type: ignore[no-untyped-def] # the library names its generator's type differently in each version
        return (family for family in self._registry.collect() if family.name.startswith(self._prefix))
