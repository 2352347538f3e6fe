"""The node's metrics as Prometheus and its tools read them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from inference_node.config import NodeConfig
from inference_node.contract import metrics as names
from inference_node.contract.metrics import MetricKind
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.fake_engine import FakeEngine
from tests.support.prometheus_server import Target, prometheus_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    engine = FakeEngine(max_model_len=4096)
    engine.listener = metrics = NodeMetrics("fake", "0.1.0")
    config = NodeConfig(model=Path("/nowhere"), served_model_name="fake", port=0, data_dir=tmp_path / "data")
    with serve_in_background(engine, config, metrics=metrics) as served:
        body = {"prompt": ["abc", "def"], "max_tokens": 5}
        httpx2.post(f"{served.url}/v1/completions", json=body).raise_for_status()
        yield served


@pytest.mark.prometheus
class TestPrometheus:
    def test_scrapes_every_metric_under_its_own_name(self, served: Served, tmp_path: Path) -> None:
        with prometheus_server(tmp_path / "prometheus", scrape_interval_s=0.5) as prometheus:
            prometheus.set_targets([Target(served.url.removeprefix("http://"), {"node": "n"})])
            prometheus.wait_for("inference_steps_total or inference_ready == 1")
            for spec in names.ALL:
                sample = f"{spec.name}_bucket" if spec.kind is MetricKind.HISTOGRAM else spec.name
                found = prometheus.query(f'{{__name__="{sample}"}}')
                assert found, f"Prometheus has no {sample}"
                assert {entry["metric"]["model_name"] for entry in found} == {"fake"}
            (success,) = prometheus.query('vllm:request_success_total{finished_reason="length"}')
            assert success["value"][1] == "2"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH: apt-get install prometheus")
class TestPromtool:
    def check(self, text: str) -> list[str]:
        run = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        return (run.stdout + run.stderr).splitlines()

    def test_finds_nothing_in_our_own_names(self, served: Served) -> None:
        assert self.check(httpx2.get(f"{served.url}/metrics?names=inference").text) == []

    def test_finds_nothing_but_the_colon_in_vllms(self, served: Served) -> None:
        complaints = self.check(httpx2.get(f"{served.url}/metrics").text)
        assert [line for line in complaints if not line.endswith("metric names should not contain ':'")] == []
        assert all(line.startswith("vllm:") for line in complaints)
