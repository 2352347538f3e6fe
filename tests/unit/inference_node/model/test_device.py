"""Which GPUs are taken, and what is said of one that is not; of cards that this machine need not have."""

import importlib.util
import warnings
from types import SimpleNamespace

import pytest
import torch

from inference_node.model.device import GpuUnavailable, find_gpu


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What torch tells of the device; a test changes what it is about."""
    found = SimpleNamespace(name="a card", major=9, minor=0, multi_processor_count=132, total_memory=1 << 37)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return found


def test_a_card_that_can_is_taken(card: SimpleNamespace) -> None:
    gpu = find_gpu()
    assert (gpu.name, gpu.capability, gpu.has_fp8) == ("a card", (9, 0), True)
    assert gpu.features == ("cuda", "sm90", "fp8")


def test_a_card_that_is_too_old_is_told_so(card: SimpleNamespace) -> None:
    card.major, card.minor = 7, 5
    with pytest.raises(GpuUnavailable, match=r"a card has compute capability 7.5, the kernels need 8.0"):
        find_gpu()


def test_a_torch_without_cuda_says_where_there_is_one(card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(GpuUnavailable, match=r"built without CUDA.*download.pytorch.org"):
        find_gpu()


def test_a_driver_older_than_torch_needs_is_told_in_torchs_words(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_available() -> bool:
        text = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."
        warnings.warn(f"{text} (Triggered internally at CUDAFunctions.cpp:119.)", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with pytest.raises(GpuUnavailable, match=r"driver on your system is too old.*nvidia-smi.*CUDA 13.0") as caught:
        find_gpu()
    assert "Triggered" not in str(caught.value)


def test_no_driver_at_all_is_told(card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GpuUnavailable, match="torch sees no CUDA device"):
        find_gpu()


def test_kernels_need_triton(card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GpuUnavailable, match=r"trimtab\[gpu\]"):
        find_gpu()
