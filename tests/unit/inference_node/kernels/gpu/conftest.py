"""Kernels run on the GPU where there is one, else in Triton's interpreter; without Triton these tests are skipped."""

import os

import pytest
import torch

from tests.support.triton_interpreter import HAS_TRITON, enter_interpreter

enter_interpreter()
if not HAS_TRITON:
    collect_ignore = ["test_in_bytes.py", "test_kernels.py"]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def draw(device: torch.device) -> torch.Generator:
    """Drawn afresh in every run, so that no kernel fits one set of numbers; the seed is printed when a test fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    return torch.Generator(device=device).manual_seed(seed)
