"""What this machine reaches at best: bytes read and multiplications done per second, measured in under a second and kept.

A step can take no less than its bytes and its arithmetic divided by these; achieved over that is utilisation.
"""

import logging
import mmap
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from inference_node.model import device

log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Weights of a small model, and no more: the memory is given back before they are read.
_LARGEST_BYTES = 256 << 20
_ROWS, _INNER, _OUTER = 512, 1024, 2048
_GPU_READ_BYTES, _GPU_SIDE = 2 << 30, 4096
_BUDGET_S = 0.2
_LEAST_ROUNDS = 2


class Rates(BaseModel):
    """`read_bytes_per_s` over `working_set_bytes`, on `threads` threads; `flops_per_s` of matrix products by format."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    read_bytes_per_s: float
    working_set_bytes: int
    flops_per_s: dict[str, float]
    threads: int


def known_rates(folder: Path, fingerprint: str, working_set_bytes: int) -> Rates:
    """Those that were measured on this machine before, or measured now. To be called by the thread that will compute."""
    path = folder / f"{fingerprint}.json"
    try:
        return Rates.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        rates = measure(working_set_bytes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(rates.model_dump_json())
    except OSError as error:
        log.warning("the machine's rates could not be kept in %s: %s", folder, error)
    return rates


def measure(working_set_bytes: int) -> Rates:
    """The best of some rounds, on as many threads as torch is set to; other programs only ever make it slower."""
    if device.gpu_in_use() is not None:
        return _measure_gpu()
    size = min(working_set_bytes, _LARGEST_BYTES) // 4096 * 4096 or 4096
    return Rates(
        read_bytes_per_s=size / _read_s(size),
        working_set_bytes=size,
        flops_per_s={name: _flops_per_s(dtype) for name, dtype in _DTYPES.items()},
        threads=torch.get_num_threads(),
    )


def _measure_gpu() -> Rates:
    """Reading far more than its caches hold, and a product large enough for all of it."""
    words = torch.ones(_GPU_READ_BYTES // 4, device="cuda")
    factor = torch.randn(_GPU_SIDE, _GPU_SIDE, device="cuda", dtype=torch.bfloat16)

    def read() -> None:
        words.sum()
        torch.cuda.synchronize()

    def multiply() -> None:
        factor @ factor
        torch.cuda.synchronize()

    return Rates(
        read_bytes_per_s=_GPU_READ_BYTES / _best_s(read),
        working_set_bytes=_GPU_READ_BYTES,
        flops_per_s={"bf16": 2 * _GPU_SIDE**3 / _best_s(multiply)},
        threads=torch.get_num_threads(),
    )


def _read_s(size: int) -> float:
    """Seconds to read so many bytes once. In memory of its own, so that it goes back to the system at once."""
    words = torch.frombuffer(mmap.mmap(-1, size), dtype=torch.int64)
    words.fill_(1)
    return _best_s(words.sum)


def _flops_per_s(dtype: torch.dtype) -> float:
    left = torch.ones(_ROWS, _INNER, dtype=dtype)
    right = torch.ones(_INNER, _OUTER, dtype=dtype)
    return 2 * _ROWS * _INNER * _OUTER / _best_s(lambda: left @ right)


def _best_s(work: Callable[[], object]) -> float:
    """Shortest time of a round, after one that does not count."""
    work()
    times: list[float] = []
    until = time.perf_counter() + _BUDGET_S
    while len(times) < _LEAST_ROUNDS or time.perf_counter() < until:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
