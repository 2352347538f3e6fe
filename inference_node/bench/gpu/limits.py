"""The two ceilings of a card, measured in the same run as whatever is held against them."""

import statistics
from collections.abc import Callable

import torch
import triton
import triton.language as tl

_READ_BYTES = 8 << 30
_BLOCK = 8192


@triton.jit
def _read(x, out, per_program, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * per_program
    total = tl.zeros((BLOCK,), tl.int32)
    for offset in range(0, per_program, BLOCK):
        total += tl.load(x + start + offset + tl.arange(0, BLOCK))
    tl.store(out + tl.program_id(0), tl.sum(total, axis=0))


def time_s(call: Callable[[], object], repeats: int = 15, warm: int = 3) -> float:
    """Median seconds of the device, by its own events."""
    for _ in range(warm):
        call()
    taken = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(taken)


def read_bytes_per_s() -> float:
    """Reading memory and doing nothing else with it worth naming: 8 GiB, far more than any cache."""
    x = torch.randint(-100, 100, (_READ_BYTES // 4,), device="cuda", dtype=torch.int32)
    best = 0.0
    for programs in (132 * 16, 132 * 32, 132 * 64):
        per_program = x.numel() // programs // _BLOCK * _BLOCK
        out = torch.empty(programs, device="cuda", dtype=torch.int32)
        taken = time_s(lambda: _read[(programs,)](x, out, per_program, BLOCK=_BLOCK, num_warps=8))
        best = max(best, programs * per_program * 4 / taken)
    return best


def flops_per_s() -> float:
    """A large bf16 product on random numbers."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return float(2 * 8192**3 / time_s(lambda: torch.mm(a, b)))
