"""Where this process computes: the CPU, or one CUDA device, chosen once before anything is loaded."""

import importlib.util
import warnings
from dataclasses import dataclass
from enum import StrEnum

import torch

from inference_node.errors import Unavailable

# bf16 on the matrix units begins with Ampere, e4m3 with Ada: NVIDIA, "CUDA C++ Programming Guide", 'Compute Capabilities'.
_OLDEST = (8, 0)
FP8_FROM = (8, 9)


class DeviceKind(StrEnum):
    """What NODE_DEVICE may say: `auto` takes a GPU that can run the model, and else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class GpuUnavailable(Unavailable):
    """This machine has no GPU that the engine can use; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The card: memory_bytes is all of it, `driver` the newest CUDA version that the installed driver knows, as in 13.0."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    cuda: str

    @property
    def has_fp8(self) -> bool:
        return self.capability >= FP8_FROM

    @property
    def features(self) -> tuple[str, ...]:
        """In the words of engine.hardware_table."""
        major, minor = self.capability
        return ("cuda", f"sm{major}{minor}", *(("fp8",) if self.has_fp8 else ()))


_in_use: Gpu | None = None


def find_gpu() -> Gpu:
    """The current CUDA device. Raises GpuUnavailable."""
    if torch.version.cuda is None:
        raise GpuUnavailable("this torch is built without CUDA; install one from download.pytorch.org/whl/cu130")
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if not is_there:
        # torch tells of a driver that is too old for it in a warning, and of no driver at all with nothing.
        why = str(complaints[0].message).split(" (Triggered")[0] if complaints else "torch sees no CUDA device"
        raise GpuUnavailable(
            f"{why.rstrip('.')}; `nvidia-smi` shows driver and devices, torch is for CUDA {torch.version.cuda}"
        )
    if importlib.util.find_spec("triton") is None:
        raise GpuUnavailable("the kernels need Triton: pip install 'trimtab[gpu]'")
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    gpu = Gpu(
        found.name, (found.major, found.minor), found.multi_processor_count, found.total_memory, torch.version.cuda
    )
    if gpu.capability < _OLDEST:
        has, needs = (".".join(map(str, version)) for version in (gpu.capability, _OLDEST))
        raise GpuUnavailable(
            f"{gpu.name} has compute capability {has}, the kernels need {needs} for bf16 (Ampere or newer)"
        )
    return gpu


def use(gpu: Gpu | None) -> None:
    """Models that are loaded from now on lie on the GPU, or with None in the machine's memory. Process-wide."""
    global _in_use
    _in_use = gpu


def gpu_in_use() -> Gpu | None:
    return _in_use


def free_bytes() -> int:
    """Memory of the GPU that this process could still take: what nobody has, and what torch holds and does not use."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
