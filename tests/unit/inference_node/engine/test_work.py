"""The work of a step, counted by hand for a tiny model."""

from types import SimpleNamespace
from typing import Any, cast

from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepShape
from inference_node.engine.work import WorkModel
from inference_node.model.spec import ModelSpec

# 3 layers, 4 heads over 2 of 8 channels; 100 words of 16 channels; 5,000 weights in the layers.
SPEC: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_layers": 3,
    "num_heads": 4,
    "num_key_heads": 2,
    "head_dim": 8,
}


def model(*, tied: bool) -> WorkModel:
    ends = 1600 if tied else 3200
    return WorkModel.of(cast(ModelSpec, SimpleNamespace(**SPEC, tied_head=tied, num_weights=5000 + ends)))


def test_a_decode_step_reads_weights_and_context() -> None:
    work = model(tied=True).of_step(StepShape(2, context_tokens=50), Precision.BF16, 2)
    assert work.bytes == (5000 + 1600) * 2 + 52 * (2 * 3 * 2 * 8) * 2
    assert work.flops == 2 * (5000 * 2 + 1600 * 2) + 52 * (4 * 3 * 4 * 8)


def test_prefill_multiplies_each_token_and_samples_once() -> None:
    work = model(tied=True).of_step(StepShape(0, 10, 1, 0, 50), Precision.BF16, 2)
    assert work.flops == 2 * (5000 * 10 + 1600) + 50 * (4 * 3 * 4 * 8)
    assert work.bytes == 6600 * 2 + 15 * 96 * 2


def test_the_embedding_is_looked_up_not_read() -> None:
    one = StepShape(1)
    assert model(tied=True).of_step(one, Precision.FP32, 4) == model(tied=False).of_step(one, Precision.FP32, 4)


def test_narrow_formats_move_less_and_multiply_the_same() -> None:
    one = StepShape(1)
    wide, narrow = (model(tied=True).of_step(one, precision, 2) for precision in (Precision.BF16, Precision.INT4))
    assert narrow.bytes < 0.3 * wide.bytes and narrow.flops == wide.flops
