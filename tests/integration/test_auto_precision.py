"""A node that chooses its first precision: what it times, what it takes, and what the quality ceiling forbids."""

from pathlib import Path

import pytest
import structlog

from inference_node.config import NodeConfig
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine import auto_precision
from inference_node.engine.async_engine import AsyncEngine
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import load
from tests.support.engines import ask
from tests.support.models import save_tiny_model

pytestmark = pytest.mark.skipif(isinstance(load(), NativeUnavailable), reason=f"no native kernels here: {load()}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), "llama-native")


def _config(tiny: Path, folder: Path, **more: object) -> NodeConfig:
    options: dict[str, object] = {"threads": 1, "max_model_len": 512, "kv_tokens": 8192, "precision": "auto", **more}
    return NodeConfig(model=tiny, data_dir=folder, **options)  # type: ignore[arg-type]  # test shorthand


def _int4_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {Precision.BF16: 1.0, Precision.INT8: 0.5, Precision.INT4: 0.3}
    monkeypatch.setattr(
        auto_precision, "_time", lambda runner, numerics, rows, longest: {p: costs[p] for p in numerics}
    )


class TestAutoPrecision:
    async def test_a_fresh_node_times_its_candidates_and_serves(self, tiny: Path, tmp_path: Path) -> None:
        with structlog.testing.capture_logs() as logs:
            engine = AsyncEngine.load(_config(tiny, tmp_path))
        (chosen,) = [entry for entry in logs if entry["event"] == "precision_chosen"]
        assert set(chosen["us_per_token"]) <= {"fp32", "bf16", "int8", "int4"}
        assert all(cost > 0 for cost in chosen["us_per_token"].values())
        assert engine.settings.precision.value == chosen["precision"]
        engine.start()
        try:
            assert len((await ask(engine, "r", [1, 2, 3], max_tokens=8, ignore_eos=True)).tokens) == 8
        finally:
            await engine.shutdown(drain_s=0)

    def test_the_fastest_is_measured_once_and_taken(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _int4_is_fastest(monkeypatch)
        config = _config(tiny, tmp_path, max_perplexity_ratio=1e9, max_kl=1e9, settings_json='{"max_batch_size": 1}')
        first = AsyncEngine.load(config)
        assert first.settings == EngineSettings(max_batch_size=1, precision=Precision.INT4)
        (record,) = first.quality().records
        assert record.precision is Precision.INT4
        again = AsyncEngine.load(config)
        assert again.settings.precision is Precision.INT4
        assert again.quality().records == (record,)

    def test_below_the_ceiling_the_full_precision_remains(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _int4_is_fastest(monkeypatch)
        with structlog.testing.capture_logs() as logs:
            engine = AsyncEngine.load(_config(tiny, tmp_path, max_kl=1e-9, settings_json='{"max_batch_size": 1}'))
        assert engine.settings.precision is Precision.BF16
        (chosen,) = [entry for entry in logs if entry["event"] == "precision_chosen"]
        assert set(chosen["refused"]) == {"int8", "int4"}
        assert "quality ceiling" in chosen["refused"]["int8"]

    def test_settings_of_an_earlier_run_are_kept(self, tiny: Path, tmp_path: Path) -> None:
        kept = EngineSettings(precision=Precision.INT8, max_batch_size=3)
        assert AsyncEngine.load(_config(tiny, tmp_path), kept).settings == kept
