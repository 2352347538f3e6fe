"""Families that the own forward does not know: transformers' module over our pages, against transformers alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inference_node.contract.settings import Precision
from inference_node.model.backend import describe
from inference_node.model.errors import ModelInvalid, ModelUnsupported, PrecisionUnsupported
from inference_node.model.forward import TokenRun
from tests.support.engines import logits_in_chunks, make_runner
from tests.support.models import FOREIGN_SHAPES, REFUSED_SHAPES, oracle_logits, save_tiny_model

CHUNKS = [1, 1, 30, 2, 70, 46]
# Their products are no plain linear layers, which are all that is kept from feeling other rows.
FEELS_ITS_BATCH = {"gpt2", "mixtral"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestParity:
    @pytest.mark.parametrize("shape", sorted(FOREIGN_SHAPES))
    def test_logits_equal_transformers_in_fp32(self, shape: str, tmp_path: Path) -> None:
        """Every token of 150, whole and in chunks; within 1e-4 of logits that spread over some units."""
        folder = save_tiny_model(tmp_path, shape)
        tokens = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
        expected = oracle_logits(folder, tokens, torch.float32)
        runner = make_runner(folder, Precision.FP32)
        whole = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-4)
        found = logits_in_chunks(runner, tokens, CHUNKS, range(10))
        ends = torch.tensor(CHUNKS).cumsum(0) - 1
        torch.testing.assert_close(found, expected[ends], atol=1e-4, rtol=1e-4)
        if shape not in FEELS_ITS_BATCH:
            assert torch.equal(found, whole[ends])

    @pytest.mark.parametrize("shape", sorted(FOREIGN_SHAPES))
    def test_bf16_is_as_near_to_fp32_as_transformers_is_in_bf16(self, shape: str, tmp_path: Path) -> None:
        """By mean distance of the logits, with a quarter to spare."""
        folder = save_tiny_model(tmp_path, shape, dtype=torch.bfloat16)
        tokens = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
        exact = oracle_logits(folder, tokens, torch.float32)
        theirs = (oracle_logits(folder, tokens, torch.bfloat16) - exact).abs().mean()
        runner = make_runner(folder, Precision.BF16)
        found = runner.logits_apart(tokens, runner.numerics.store, None, every_token=True)
        assert (found - exact).abs().mean() < 1.25 * theirs

    def test_sequences_side_by_side_do_not_see_one_another(self, tmp_path: Path) -> None:
        """A prompt, a prompt over another's blocks, and a decode row in one step: each as it is alone."""
        folder = save_tiny_model(tmp_path, "gpt_neox")
        first, second = list(range(100)), list(range(50, 90))
        runner = make_runner(folder, Precision.BF16)
        alone = [runner.logits([TokenRun(tokens, 0, range(10), samples=True)]) for tokens in (first, second)]
        runner.logits([TokenRun(first[:99], 0, range(10), samples=False)])
        together = runner.logits(
            [
                TokenRun(first[99:], 99, range(10), samples=True),
                TokenRun(second, 0, range(20, 23), samples=True),
                # Its first 64 tokens are in the first sequence's blocks.
                TokenRun(first[64:], 64, [*range(4), *range(30, 33)], samples=True),
            ]
        )
        assert torch.equal(together, torch.cat((alone[0], alone[1], alone[0])))


class TestSpec:
    def test_is_read_off_the_module(self, tmp_path: Path) -> None:
        spec = describe(save_tiny_model(tmp_path, "olmo3"))
        assert spec.foreign is not None
        assert "'olmo3' have no forward" in spec.foreign.reason
        assert (spec.num_layers, spec.num_heads, spec.num_key_heads, spec.head_dim) == (4, 4, 2, 16)
        assert spec.windows == (40, 40, 40, 0)
        assert (spec.vocab_size, spec.max_positions, spec.eos_token_ids) == (272, 512, frozenset({256}))

    def test_counts_what_the_module_holds(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path, "gpt_neox")
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        assert describe(folder).num_weights == pytest.approx(stored / 4, rel=0.05)

    @pytest.mark.parametrize("shape", sorted(REFUSED_SHAPES))
    def test_refuses_what_pages_cannot_hold_and_says_why(self, shape: str, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path, shape)
        with pytest.raises(ModelUnsupported, match=REFUSED_SHAPES[shape][2]):
            make_runner(folder, Precision.FP32)

    def test_refuses_a_type_that_transformers_does_not_know(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "never-heard-of"}')
        with pytest.raises(ModelUnsupported, match=r"'never-heard-of' have no forward.*cannot take its place"):
            describe(tmp_path)


class TestStore:
    def test_refuses_int8(self, tmp_path: Path) -> None:
        with pytest.raises(PrecisionUnsupported, match="fp32 and bf16 weights and no pruning"):
            make_runner(save_tiny_model(tmp_path, "phi"), Precision.INT8)

    def test_names_a_tensor_that_is_missing(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        folder = save_tiny_model(tmp_path, "gpt_neox")
        tensors = load_file(folder / "model.safetensors")
        del tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelInvalid, match=r"no tensor 'gpt_neox\.layers\.1\.mlp\.dense_h_to_4h\.weight'"):
            make_runner(folder, Precision.FP32)
