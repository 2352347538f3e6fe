"""The device that this process computes on."""

import torch


def here() -> torch.device:
    """The current CUDA device; the CPU where there is none, for Triton's interpreter, which tests use."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def multiprocessors() -> int:
    device = here()
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def wait_here() -> None:
    """Until what this thread's stream was given is done."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()
