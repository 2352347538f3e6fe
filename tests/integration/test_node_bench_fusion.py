"""`trimtab bench fusion` on tiny models: the counts fall, the ways agree, and the command prints both ways."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from inference_node.bench.fusion import EAGER, FusionOptions, run
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid
from tests.support.models import save_tiny_model
from trimtab.cli.bench import app


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestRun:
    @pytest.mark.parametrize("shape", ["llama-gqa", "qwen3", "glm4", "gemma3-text"])
    def test_our_graph_asks_for_fewer_operators_and_says_the_same(self, shape: str, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path, shape)
        options = FusionOptions(folder, Precision.FP32, rows=(1, 3), context=20, prompt_tokens=24, repeats=2)
        report = run(options)
        assert [(case["phase"], case["rows"], case["tokens"]) for case in report["results"]] == [
            ("decode", 1, 1),
            ("decode", 3, 1),
            ("prefill", 1, 24),
        ]
        for case in report["results"]:
            before, *after = case["ways"]
            assert before["name"] == EAGER
            assert before["speedup"] == 1
            assert after
            for way in after:
                assert way["operators_computing"] < before["operators_computing"]
                assert way["operators_inside"] < before["operators_inside"]
                assert way["kl_nats"] < 1e-6
                assert len(way["step_ms_spread"]["values"]) == 2

    def test_a_native_step_is_one_call_and_names_its_stages(self, tmp_path: Path) -> None:
        report = run(FusionOptions(save_tiny_model(tmp_path, "llama-gqa"), rows=(1,), context=20, repeats=1))
        for way in report["results"][0]["ways"]:
            assert way["native_stages"] == len(report["native_stages"].get(way["name"], []))
            assert way["native_calls"] == (way["native_stages"] > 0)

    def test_other_families_are_compared_too(self, tmp_path: Path) -> None:
        options = FusionOptions(
            save_tiny_model(tmp_path, "gpt_neox"), Precision.FP32, rows=(2,), context=20, prompt_tokens=24, repeats=1
        )
        ways = run(options)["results"][0]["ways"]
        assert [way["name"] for way in ways] == [EAGER, "transformers, over our pages"]
        assert ways[1]["kl_nats"] < 1e-6

    def test_refuses_what_transformers_lacks(self) -> None:
        with pytest.raises(Invalid, match="fp32 and bf16 to compare with"):
            FusionOptions(Path("model"), Precision.INT8)


class TestCommand:
    def test_prints_one_document(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path)
        asked = ["fusion", "--model", str(folder), "--precision", "fp32", "--rows", "1", "--repeats", "1", "--json"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["benchmark"] == "fusion"

    def test_prints_a_table(self, tmp_path: Path) -> None:
        asked = ["fusion", "--model", str(save_tiny_model(tmp_path)), "--rows", "1", "--repeats", "1"]
        done = CliRunner().invoke(app, asked, env={"COLUMNS": "160"})
        assert done.exit_code == 0, done.output
        assert "decode 1" in done.stdout
        assert "prefill 128" in done.stdout

    def test_names_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, ["fusion", "--model", str(tmp_path)])
        assert "holds no config.json" in str(done.exception)
