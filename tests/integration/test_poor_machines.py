"""Machines that lack what the engine likes to have: it starts slower, or not at all, and says why in one line."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import Precision
from inference_node.engine import hardware
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.cpu import usable_cpus
from inference_node.engine.own_thread import in_own_thread
from inference_node.kernels.native import library
from tests.support.engines import ask, running_engine
from tests.support.models import save_tiny_model
from tests.support.node_process import NodeProcess


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "llama-native")


def complete(node: NodeProcess) -> str:
    body = {"prompt": "hello", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    answer = httpx2.post(f"{node.url}/v1/completions", json=body, trust_env=False, timeout=60)
    return str(answer.raise_for_status().json()["choices"][0]["finish_reason"])


def test_without_a_compiler_a_node_serves_from_plain_torch_and_says_so(model: Path, tmp_path: Path) -> None:
    poor = {"PATH": str(tmp_path), "CXX": "", "TRIMTAB_CACHE": str(tmp_path / "cache")}
    with closing(NodeProcess(model, tmp_path / "data", environment=poor)) as node:
        node.wait_ready()
        said = node.event("model_runs_in_plain_torch")
        assert said["level"] == "warning" and "no C++ compiler was found: install g++" in said["reason"]
        assert complete(node) == "length"
        change = {"precision": "int4"}
        refused = httpx2.patch(f"{node.url}/admin/v1/settings", json=change, headers=node.admin, trust_env=False)
        assert refused.status_code == 422
        assert "int4 is not available on this node; it has fp32, bf16" in refused.json()["message"]


@pytest.fixture
def no_avx512(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if cpuid said so."""
    monkeypatch.setattr(library.Library, "is_usable", property(lambda self: False))
    library.load.cache_clear()
    yield
    monkeypatch.undo()
    library.load.cache_clear()


@pytest.mark.usefixtures("no_avx512")
async def test_without_avx512_it_answers_from_plain_torch(model: Path, tmp_path: Path) -> None:
    async with running_engine(model, tmp_path) as engine:
        assert Precision.INT4 not in engine.capabilities.precisions
        assert len((await ask(engine, "r", [1, 2, 3], max_tokens=4, ignore_eos=True)).tokens) == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes")
def test_on_one_core_it_serves_and_more_replicas_are_refused(model: Path, tmp_path: Path) -> None:
    def start(*options: str) -> NodeProcess:
        os.sched_setaffinity(0, {min(usable_cpus())})  # of this thread, and so of the process that it starts
        return NodeProcess(model, tmp_path / "data", *options)

    with closing(in_own_thread(lambda: start("--replicas", "auto"), "start")) as node:
        node.wait_ready()
        status = httpx2.get(f"{node.url}/admin/v1/status", headers=node.admin, trust_env=False).json()
        assert status["hardware"]["physical_cores"] == 1
        assert [one["threads"] for one in status["stats"]["replicas"]] == [1]
        assert complete(node) == "length"
    with closing(in_own_thread(lambda: start("--replicas", "2"), "start")) as node:
        assert node.wait() == 2
        assert "each needs a core of its own, and this process may use 1" in node.event("node_cannot_start")["reason"]


class TestMemory:
    def test_weights_that_do_not_fit_are_refused_before_they_are_read(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hardware, "available_bytes", lambda: 500_000)
        config = NodeConfig(model=model, data_dir=tmp_path, settings_json='{"precision": "fp32"}', max_model_len=64)
        with pytest.raises(ConfigInvalid, match=r"fp32 weights take \d+ MB of memory.*free memory, or choose"):
            AsyncEngine.load(config)

    def test_a_narrower_format_is_named_where_it_fits(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        monkeypatch.setattr(hardware, "available_bytes", lambda: whole)
        config = NodeConfig(model=model, data_dir=tmp_path, settings_json='{"precision": "fp32"}', max_model_len=64)
        with pytest.raises(ConfigInvalid, match=r"set NODE_PRECISION="):
            AsyncEngine.load(config)
