"""The collectors: all there from the start, right after what the engine tells, clean in format."""

import re
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from inference_node.contract import metrics as names
from inference_node.contract.metrics import MetricKind
from inference_node.contract.quality import NodeQuality
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.engine.listener import RequestRecord, StepRecord
from inference_node.engine.requests import FinishReason, RequestTiming
from inference_node.metrics import ERROR_CAUSES, NodeMetrics
from tests.support.fake_engine import FakeEngine
from tests.support.quality_records import quality_record

STEP = StepRecord(
    step=1,
    started_s=0.0,
    duration_s=0.012,
    precision=Precision.BF16,
    decode_rows=3,
    prefill_tokens=40,
    prefill_rows=1,
    generated_tokens=4,
    preemptions=1,
    prefix_queries=64,
    prefix_hits=24,
    running=4,
    waiting=2,
    blocks_used=9,
    blocks_total=100,
    batch_cap=8,
    pruned_ratio=0.0,
)


@pytest.fixture
def metrics() -> NodeMetrics:
    return NodeMetrics("m", "1.2.3")


def samples(metrics: NodeMetrics) -> dict[str, float]:
    """Every sample as name{label="value",...} without model_name."""
    found = {}
    for family in parse_text(metrics.expose("")[0].decode()):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()) if k != "model_name")
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def finished(reason: FinishReason, error: str | None = None) -> RequestRecord:
    return RequestRecord("r", reason, RequestTiming(1.0, 1.5, 2.0, 4.0), 10, 0, 5, 0, error)


class TestQuality:
    def test_each_measured_level_has_its_series(self, metrics: NodeMetrics) -> None:
        records = [quality_record(kl_mean=0.01)]
        metrics.bind_quality(lambda: NodeQuality(max_perplexity_ratio=1.1, max_kl=0.3, records=tuple(records)))
        records.append(quality_record(Precision.INT4, 0.25, kv_precision=KvPrecision.INT8, perplexity_ratio=1.2))

        found = {name: value for name, value in samples(metrics).items() if name.startswith("inference_quality")}

        level = 'kv_precision="{}",precision="{}",pruning_threshold="{}"'.format
        int8, int4 = level("model", "int8", "0"), level("int8", "int4", "0.25")
        assert found[f"inference_quality_kl_nats{{{int8}}}"] == 0.01
        assert found[f"inference_quality_certified{{{int8}}}"] == 1
        assert found[f"inference_quality_perplexity_ratio{{{int4}}}"] == 1.2
        assert found[f"inference_quality_certified{{{int4}}}"] == 0
        assert len(found) == 8


class TestReplicas:
    def test_each_has_its_series(self, metrics: NodeMetrics) -> None:
        (one,) = FakeEngine().stats().replicas
        first = replace(one, running=3, waiting=2, blocks_used=64, steps=40, taken_over=7)
        stats = replace(FakeEngine().stats(), replicas=(first, replace(first, number=1, steps=2)))
        hardware = FakeEngine().hardware
        metrics.bind(lambda: stats, lambda: 1, hardware, EngineSettings())

        found = {name: value for name, value in samples(metrics).items() if name.startswith("inference_replica")}

        assert found['inference_replica_requests_running{replica="0"}'] == 3
        assert found['inference_replica_requests_waiting{replica="0"}'] == 2
        assert found['inference_replica_kv_usage_ratio{replica="1"}'] == 0.25
        assert found['inference_replica_steps_total{replica="1"}'] == 2
        assert found['inference_replica_requests_taken_over_total{replica="0"}'] == 7
        assert len(found) == 10


class TestExposition:
    def test_every_metric_of_the_contract_is_there_from_the_start(self, metrics: NodeMetrics) -> None:
        text = metrics.expose("")[0].decode()
        for spec in names.ALL:
            assert f"# HELP {spec.name} " in text
            kind = "gauge" if spec.kind is MetricKind.INFO else spec.kind.value
            assert f"# TYPE {spec.name} {kind}" in text

    def test_every_series_but_the_infos_starts_at_zero(self, metrics: NodeMetrics) -> None:
        found = samples(metrics)
        assert set(found.values()) == {0.0}
        for cause in ERROR_CAUSES:
            assert f'inference_request_errors_total{{cause="{cause}"}}' in found
        for reason in ("stop", "length", "abort", "error"):
            assert f'vllm:request_success_total{{finished_reason="{reason}"}}' in found

    def test_speaks_openmetrics_when_asked(self, metrics: NodeMetrics) -> None:
        body, content_type = metrics.expose("application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        families = [family.name for family in parse_openmetrics(body.decode())]  # type: ignore[no-untyped-call]
        assert families == [spec.name.removesuffix("_total") for spec in names.ALL]  # vLLM's colon survives, too

    def test_can_show_our_own_names_alone(self, metrics: NodeMetrics) -> None:
        families = [family.name for family in parse_text(metrics.expose("", "inference_")[0].decode())]
        assert families and all(name.startswith("inference_") for name in families)

    def test_has_no_created_timestamps(self, metrics: NodeMetrics) -> None:
        assert not re.search(r"_created\b", metrics.expose("")[0].decode())


class TestListener:
    def test_a_step_counts_its_work(self, metrics: NodeMetrics) -> None:
        metrics.on_step(STEP)
        found = samples(metrics)
        assert found["inference_steps_total"] == 1
        assert found["inference_step_decode_rows_total"] == 3
        assert found["inference_step_prefill_tokens_total"] == 40
        assert found["inference_step_seconds_sum"] == pytest.approx(0.012)
        assert found["vllm:prompt_tokens_total"] == 64  # computed and cached
        assert found["vllm:generation_tokens_total"] == 4
        assert found["vllm:num_preemptions_total"] == 1
        assert found["vllm:prefix_cache_queries_total"] == 64
        assert found["vllm:prefix_cache_hits_total"] == 24

    def test_token_times_fill_the_latency_histograms(self, metrics: NodeMetrics) -> None:
        metrics.on_token_times([0.3], [0.02, 0.03])
        found = samples(metrics)
        assert found["vllm:time_to_first_token_seconds_count"] == 1
        assert found["vllm:inter_token_latency_seconds_count"] == 2
        assert found['vllm:inter_token_latency_seconds_bucket{le="0.025"}'] == 1

    def test_a_whole_request_is_measured(self, metrics: NodeMetrics) -> None:
        metrics.on_request_finished(finished(FinishReason.STOP))
        found = samples(metrics)
        assert found['vllm:request_success_total{finished_reason="stop"}'] == 1
        assert found["vllm:request_queue_time_seconds_sum"] == pytest.approx(0.5)
        assert found["vllm:request_prefill_time_seconds_sum"] == pytest.approx(0.5)
        assert found["vllm:request_decode_time_seconds_sum"] == pytest.approx(2.0)
        assert found["vllm:e2e_request_latency_seconds_sum"] == pytest.approx(3.0)
        assert found["vllm:request_prompt_tokens_sum"] == 10
        assert found["vllm:request_generation_tokens_sum"] == 5

    def test_a_cancelled_request_does_not_flatter_the_latencies(self, metrics: NodeMetrics) -> None:
        metrics.on_request_finished(finished(FinishReason.CANCELLED))
        found = samples(metrics)
        assert found["inference_requests_cancelled_total"] == 1
        assert found['vllm:request_success_total{finished_reason="abort"}'] == 1
        assert found["vllm:e2e_request_latency_seconds_count"] == 0

    def test_a_failed_request_is_an_error_of_the_engine(self, metrics: NodeMetrics) -> None:
        metrics.on_request_finished(finished(FinishReason.ERROR, "RuntimeError"))
        assert samples(metrics)['inference_request_errors_total{cause="engine"}'] == 1

    def test_only_a_full_queue_counts_as_rejected(self, metrics: NodeMetrics) -> None:
        for reason in ("queue_full", "prompt_too_long", "invalid", "stopped"):
            metrics.on_request_rejected(reason)
        assert samples(metrics)["inference_requests_rejected_total"] == 1

    def test_the_offered_load_is_counted(self, metrics: NodeMetrics) -> None:
        metrics.on_request_offered(7)
        found = samples(metrics)
        assert found["inference_requests_offered_total"] == 1
        assert found["inference_prompt_tokens_offered_total"] == 7

    def test_unknown_causes_do_not_make_new_series(self, metrics: NodeMetrics) -> None:
        before = len(samples(metrics))
        metrics.count_error("something new")
        found = samples(metrics)
        assert len(found) == before
        assert found['inference_request_errors_total{cause="internal"}'] == 1


class TestSettings:
    def test_show_each_number_and_one_info(self, metrics: NodeMetrics) -> None:
        metrics.on_settings_applied(EngineSettings(), 1, ())
        metrics.on_settings_applied(EngineSettings(max_batch_size=3, precision=Precision.INT8), 2, ())
        found = samples(metrics)
        assert found['inference_settings_knob{knob="max_batch_size"}'] == 3
        assert found['inference_settings_knob{knob="prefix_cache"}'] == 1
        infos = [name for name in found if name.startswith("inference_settings_info")]
        assert infos == ['inference_settings_info{kv_precision="model",precision="int8",scheduling_policy="fcfs"}']

    def test_gauges_are_read_at_each_scrape(self, metrics: NodeMetrics) -> None:
        engine, generation, ready = FakeEngine(), [0], [False]
        metrics.bind(engine.stats, lambda: generation[0], engine.hardware, engine.settings)
        metrics.bind_ready(lambda: ready[0])
        assert samples(metrics)["inference_ready"] == 0
        generation[0], ready[0] = 5, True
        found = samples(metrics)
        assert (found["inference_settings_generation"], found["inference_ready"]) == (5, 1)
        assert found['vllm:cache_config_info{block_size="16",num_gpu_blocks="256"}'] == 1
        assert found['inference_build_info{device="cpu",version="1.2.3"}'] == 1
