"""Empty weights against real ones of the same model, for every family."""

from pathlib import Path

import pytest
import torch

from inference_node.contract.settings import Precision
from inference_node.model.backend import describe
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.gpu.blank import blank, shortened
from inference_node.model.gpu.store import GpuMatrix, build
from tests.support.models import SHAPES, save_tiny_model


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_empty_weights_lie_as_real_ones_do(tmp_path: Path, shape: str) -> None:
    save_tiny_model(tmp_path, shape, dtype=torch.bfloat16)
    spec = describe(tmp_path)
    real = shortened(build(Checkpoint.open(tmp_path), spec, Precision.BF16), spec)
    empty = blank(real, spec)
    assert set(spec.windows[: len(real.layers)]) == set(spec.windows)
    assert len(empty.layers) == len(real.layers)
    for one, other in zip(empty.layers, real.layers, strict=True):
        for found, expected in zip(one.matrices(), other.matrices(), strict=True):
            assert_alike(found, expected)
    assert_alike(empty.head, real.head)


def assert_alike(found: GpuMatrix, expected: GpuMatrix) -> None:
    assert isinstance(found.weight, torch.Tensor)
    assert isinstance(expected.weight, torch.Tensor)
    assert found.weight.shape == expected.weight.shape
    assert found.weight.stride() == expected.weight.stride()
    assert found.bias is expected.bias
    assert not found.weight.any()
