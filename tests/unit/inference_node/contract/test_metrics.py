import re

import pytest

from inference_node.contract import metrics
from inference_node.contract.metrics import MetricKind, MetricSpec


@pytest.mark.parametrize("spec", metrics.ALL, ids=lambda s: s.name)
def test_names_follow_prometheus_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"(vllm:|inference_)[a-z0-9_]+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind is MetricKind.COUNTER)
    assert spec.name.endswith("_info") == (spec.kind is MetricKind.INFO)
    assert spec.help.endswith(".")


@pytest.mark.parametrize("spec", metrics.ALL, ids=lambda s: s.name)
def test_every_series_is_labelled_with_the_model(spec: MetricSpec) -> None:
    assert spec.labels[0] == "model_name"


def test_names_are_unique() -> None:
    assert len({spec.name for spec in metrics.ALL}) == len(metrics.ALL)


def test_histograms_have_rising_buckets() -> None:
    for spec in metrics.ALL:
        assert (spec.kind is MetricKind.HISTOGRAM) == bool(spec.buckets)
        assert list(spec.buckets) == sorted(set(spec.buckets))


def test_the_gateway_api_inference_extension_finds_its_gauges() -> None:
    names = {spec.name for spec in metrics.ALL}
    assert {"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"} <= names
