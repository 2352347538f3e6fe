"""The device that this process computes on."""

import contextlib
import functools
import threading
from collections.abc import Iterator

import torch

from inference_node.model.device import FP8_FROM

# More than the largest step takes: a few times its logits.
_SPARE_BYTES = 4 << 30
_beside = threading.Lock()


def here() -> torch.device:
    """The current CUDA device; the CPU where there is none, for Triton's interpreter, which tests use."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def has_fp8() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= FP8_FROM


def wait_here() -> None:
    """Until what this thread's stream was given is done."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()


@contextlib.contextmanager
def beside_steps() -> Iterator[None]:
    """What the calling thread computes within shares the device with the engine's steps, and is done at the end. One at a time.

    Given to their stream, every wait for a result would take a step or two: 2.1 s for 129 matrices of an 8B model under load.
    """
    if not torch.cuda.is_available():
        yield
        return
    with _beside:
        stream = _stream_beside(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
            stream.synchronize()


@functools.cache
def _stream_beside(device: int) -> torch.cuda.Stream:
    # One for all: torch keeps freed memory apart by stream, and after some changes of format 27 GB lay idle so.
    return torch.cuda.Stream(device)


def spare_memory() -> None:
    """Before a capture, during which torch cannot give memory back that it keeps for later: does so where little is left."""
    free, _ = torch.cuda.mem_get_info()
    if free < _SPARE_BYTES:
        torch.cuda.empty_cache()
