"""`trimtab bench quality` on a real, if random, model: figures, records, refusals."""

import json
from pathlib import Path

import pytest

from inference_node.bench.quality import QualityOptions, run
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid
from tests.support.models import save_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "llama-native")


class TestBenchQuality:
    def test_more_pruning_diverges_more_and_the_records_are_kept(self, folder: Path, tmp_path: Path) -> None:
        options = QualityOptions(
            folder, tmp_path, precisions=(Precision.BF16, Precision.INT8), prunings=(0.0, 0.25, 0.6), keep=True
        )
        report = run(options)

        rows = {(row["precision"], row["pruning_threshold"]): row for row in report["results"]}
        assert rows["bf16", 0.0]["perplexity_ratio"] == pytest.approx(1.0, abs=1e-6)
        assert rows["bf16", 0.0]["kl_mean"] == pytest.approx(0.0, abs=1e-6)
        for precision in ("bf16", "int8"):
            divergences = [rows[precision, level]["kl_mean"] for level in (0.0, 0.25, 0.6)]
            assert divergences == sorted(divergences)
            assert divergences[0] < divergences[1] < divergences[2]
            assert rows[precision, 0.6]["kept_ratio"] < rows[precision, 0.25]["kept_ratio"] < 1
        assert rows["bf16", 0.0]["standing"] == "full"
        (kept,) = (tmp_path / "quality").glob("*.json")
        assert len(json.loads(kept.read_text())["records"]) == 6

    def test_a_ceiling_that_a_level_breaks_shows_it_as_failed(self, folder: Path, tmp_path: Path) -> None:
        report = run(QualityOptions(folder, tmp_path, precisions=(Precision.BF16,), prunings=(0.6,), max_kl=1e-4))

        assert [row["standing"] for row in report["results"]] == ["full", "failed"]
        assert not (tmp_path / "quality").exists()

    def test_names_what_this_machine_has_not(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="fp16: not on this machine"):
            run(QualityOptions(folder, tmp_path, precisions=(Precision.FP16,)))
        with pytest.raises(Invalid, match=r"pruning 0\.9 is outside"):
            run(QualityOptions(folder, tmp_path, prunings=(0.9,)))
