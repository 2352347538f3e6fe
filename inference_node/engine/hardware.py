"""The machine below: what it is, how much memory is left, and how this process should use it."""

import contextlib
import ctypes
import hashlib
import os
import threading
from pathlib import Path

import psutil
import torch

from inference_node.contract.messages import NodeHardware
from inference_node.engine.cpu import read_cpu, read_numa_nodes, usable_cpus
from inference_node.engine.hardware_table import hardware_class
from inference_node.engine.rates import Rates
from inference_node.model import device

_FEATURES = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_vbmi2",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
)
_CGROUP = Path("/sys/fs/cgroup")
# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30
# Linux gives such a thread a tenth of what others get of a core that both want (sched-nice-design: a factor of 1.25 a level).
_BACKGROUND_NICENESS = 10


def describe(threads: int, rates: Rates | None = None) -> NodeHardware:
    """The machine; `rates` as measured, if they were. Where a GPU is in use, its name, features and memory."""
    gpu = device.gpu_in_use()
    cpu, usable = read_cpu(), usable_cpus()
    nodes = read_numa_nodes(usable)
    return NodeHardware(
        device="cpu" if gpu is None else gpu.name,
        cpu_model=cpu.model,
        cpu_cores=len(usable),
        threads=threads,
        memory_bytes=total_bytes(),
        features=gpu.features if gpu is not None else tuple(name for name in _FEATURES if name in cpu.features),
        hardware_class=hardware_class(cpu.features if gpu is None else gpu.features).name,
        physical_cores=sum(len(node.cores) for node in nodes),
        numa_nodes=len(nodes),
        read_bytes_per_s=0.0 if rates is None else rates.read_bytes_per_s,
        flops_per_s={} if rates is None else rates.flops_per_s,
    )


def fingerprint(machine: NodeHardware) -> str:
    """Tells apart machines that compute at different speeds: processor, its instruction sets, cores and threads in use."""
    parts = (machine.device, machine.cpu_model, machine.cpu_cores, machine.threads, machine.features)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def total_bytes() -> int:
    """Memory of the machine, or of the container when that is less; of the GPU where one is in use."""
    if (gpu := device.gpu_in_use()) is not None:
        return gpu.memory_bytes
    return min(psutil.virtual_memory().total, _cgroup_limit() or psutil.virtual_memory().total)


def available_bytes() -> int:
    """Memory that this process could still take without swapping or being killed, or of the GPU where one is in use."""
    if device.gpu_in_use() is not None:
        return device.free_bytes()
    free = psutil.virtual_memory().available
    limit = _cgroup_limit()
    if limit is None:
        return free
    with contextlib.suppress(OSError, ValueError):
        return min(free, max(0, limit - int((_CGROUP / "memory.current").read_text())))
    return free


def use_threads(count: int) -> None:
    """Threads of each torch operation. Process-wide."""
    torch.set_num_threads(count)


def step_back() -> None:
    """Lets all other threads of the machine go first from now on, for as long as the calling thread lives. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BACKGROUND_NICENESS)


def keep_freed_memory() -> None:
    """Keeps large freed buffers in the heap. By default glibc gives them back, and a prefill step faults every page in again:
    0.83 against 0.33 ms for one RMSNorm of 512 rows (measured). Without glibc, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def _cgroup_limit() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((_CGROUP / "memory.max").read_text())
    return None
