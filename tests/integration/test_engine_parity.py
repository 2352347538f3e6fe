"""Our forward against transformers' own: every shape it supports, whole, in chunks, and over a cached prefix."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_node.contract.settings import Precision
from inference_node.model.forward import TokenRun
from tests.support.engines import logits_in_chunks, make_runner
from tests.support.models import SHAPES, demo_model, oracle_logits, save_tiny_model

TEXT = (
    "The lighthouse keeper wrote down the weather twice a day, in a neat hand, for thirty-one years. When the lamp was made "
    "automatic in 1978 he kept writing. Asked why, he said that somebody should know what the sky had been like."
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestTinyModels:
    @pytest.mark.parametrize("shape", sorted(SHAPES))
    def test_logits_equal_transformers_in_fp32(self, shape: str, tmp_path: Path) -> None:
        """Every token of 150, whole and in chunks; within 1e-4 of logits that spread over some units."""
        folder = save_tiny_model(tmp_path, shape)
        tokens = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
        expected = oracle_logits(folder, tokens, torch.float32)
        runner = make_runner(folder, Precision.FP32)
        whole = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-4)
        chunks = [1, 1, 30, 2, 70, 46]
        found = logits_in_chunks(runner, tokens, chunks, range(10))
        ends = torch.tensor(chunks).cumsum(0) - 1
        torch.testing.assert_close(found, expected[ends], atol=1e-4, rtol=1e-4)
        # And bit by bit the same among themselves, cut or whole.
        assert torch.equal(found, whole[ends])

    @pytest.mark.parametrize("shape", sorted(SHAPES))
    def test_bf16_is_as_near_to_fp32_as_transformers_is_in_bf16(self, shape: str, tmp_path: Path) -> None:
        """By mean distance of the logits, with a quarter to spare; and chunks bit by bit as the whole."""
        folder = save_tiny_model(tmp_path, shape, dtype=torch.bfloat16)
        tokens = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
        exact = oracle_logits(folder, tokens, torch.float32)
        theirs = (oracle_logits(folder, tokens, torch.bfloat16) - exact).abs().mean()
        runner = make_runner(folder, Precision.BF16)
        whole = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        assert (whole - exact).abs().mean() < 1.25 * theirs
        chunks = [1, 1, 30, 2, 70, 46]
        found = logits_in_chunks(runner, tokens, chunks, range(10))
        assert torch.equal(found, whole[torch.tensor(chunks).cumsum(0) - 1])

    @pytest.mark.parametrize("shape", sorted(SHAPES))
    def test_int8_follows_fp32_roughly_and_never_leaves_it(self, shape: str, tmp_path: Path) -> None:
        """A random model shows wiring errors: logits stay parallel to fp32's (cosine above 0.97)."""
        folder = save_tiny_model(tmp_path, shape)
        tokens = list(range(60))
        expected = oracle_logits(folder, tokens, torch.float32)
        runner = make_runner(folder, Precision.INT8)
        found = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).min() > 0.97

    def test_gemma_with_vision_is_read_by_its_modules_names_too(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path, "gemma3")
        tokens = list(range(60))
        runner = make_runner(folder, Precision.FP32)
        expected = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        saved = load_file(folder / "model.safetensors")
        assert "language_model.model.norm.weight" in saved
        renamed = {name.replace("language_model.model.", "model.language_model."): saved[name] for name in saved}
        save_file(renamed, folder / "model.safetensors", {"format": "pt"})
        runner = make_runner(folder, Precision.FP32)
        assert torch.equal(runner.logits_apart(tokens, runner.numerics.store, None, every_token=True), expected)

    def test_a_later_request_reads_blocks_that_an_earlier_one_wrote(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path)
        tokens = list(range(100))
        runner = make_runner(folder, Precision.BF16)
        whole = runner.logits([TokenRun(tokens, 0, range(10), samples=True)])
        # Blocks 0 to 3 hold the first 64 tokens; the second request computes the rest into blocks of its own.
        other = [*range(4), *range(20, 26)]
        assert torch.equal(runner.logits([TokenRun(tokens[64:], 64, other, samples=True)]), whole)


@pytest.mark.model
class TestDemoModel:
    def test_fp32_equals_transformers(self) -> None:
        """Within 1e-3 of logits that reach 30 (measured: 1.2e-4), for whole prompts and for decode."""
        folder = demo_model()
        tokens = _tokenize(folder)
        expected = oracle_logits(folder, tokens, torch.float32)
        runner = make_runner(folder, Precision.FP32)
        whole = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        torch.testing.assert_close(whole, expected, atol=1e-3, rtol=0)
        chunks = [20, 1, 1, len(tokens) - 22]
        assert torch.equal(
            logits_in_chunks(runner, tokens, chunks, range(64)), whole[torch.tensor(chunks).cumsum(0) - 1]
        )

    def test_bf16_is_as_near_to_fp32_as_transformers_is_in_bf16(self) -> None:
        """By mean KL divergence over the text, with a quarter to spare; and below 0.003 itself (measured: 0.0006)."""
        folder = demo_model()
        tokens = _tokenize(folder)
        exact = oracle_logits(folder, tokens, torch.float32).log_softmax(-1)
        theirs = _divergence(exact, oracle_logits(folder, tokens, torch.bfloat16))
        runner = make_runner(folder, Precision.BF16)
        ours = _divergence(exact, runner.logits_apart(tokens, runner.numerics.store, None, every_token=True))
        assert ours < 0.003 and ours < 1.25 * theirs

    def test_int8_keeps_the_model_what_it_is(self) -> None:
        """Mean KL divergence from fp32 below 0.05 and nine of ten top tokens kept (measured: 0.02, 0.97)."""
        folder = demo_model()
        tokens = _tokenize(folder)
        exact = oracle_logits(folder, tokens, torch.float32)
        runner = make_runner(folder, Precision.INT8)
        found = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        assert _divergence(exact.log_softmax(-1), found) < 0.05
        assert (found.argmax(-1) == exact.argmax(-1)).float().mean() > 0.9


def _tokenize(folder: Path) -> list[int]:
    from transformers import AutoTokenizer

    ids: list[int] = AutoTokenizer.from_pretrained(folder)(TEXT * 3)["input_ids"]
    return ids


def _divergence(exact: torch.Tensor, logits: torch.Tensor) -> float:
    """Mean KL(exact || logits) over tokens, in nats. exact: log probabilities [T, V]."""
    return float((exact.exp() * (exact - logits.log_softmax(-1))).sum(-1).mean())
