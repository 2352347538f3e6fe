"""A few rows times a matrix in half bytes, by dot products of whole numbers: activations become bytes, 64 to a scale.

Turning half bytes into floats costs more instructions than memory gives time for. The instruction `dp4a` multiplies four
bytes with four bytes and adds them up: eight half bytes take an `and`, a shift, an `and` and two of it. Activations are
rounded as in llama.cpp's Q8_1 and in this engine's CPU kernels.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu.planes import GROUP, PER_WORD, Planes

# Above, a thread has too few registers, and products on the matrix units are faster.
MOST_ROWS = 2
# Whole numbers below 2^22 added to these bits are added to the float 1.5 * 2^23: a conversion in one addition.
_BIAS_BITS = tl.constexpr(0x4B400000)
_BIAS = tl.constexpr(12582912.0)


@triton.jit
def _byte(x, place, row, inside, at, inputs, LEAP: tl.constexpr):
    k = at + LEAP * place
    value = tl.load(x + row * inputs + k, mask=inside & (k < inputs), other=0.0).to(tl.float32)
    # What is no number makes its scale infinite, and so every output.
    size = tl.max(tl.where(value != value, float("inf"), tl.abs(value)), axis=1)
    return tl.where(value != value, 0.0, value), size


@triton.jit
def _rounded(value, size):
    return tl.floor(value / size[:, None] + 0.5).to(tl.int32)


@triton.jit
def _bytes(x, out, out_scale, inputs, groups, GROUPS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    word = tl.arange(0, 8)
    inside = (group < groups)[:, None] & (word < 8)[None, :]
    at = group[:, None] * 64 + word[None, :]
    v0, m0 = _byte(x, 0, row, inside, at, inputs, 8)
    v1, m1 = _byte(x, 1, row, inside, at, inputs, 8)
    v2, m2 = _byte(x, 2, row, inside, at, inputs, 8)
    v3, m3 = _byte(x, 3, row, inside, at, inputs, 8)
    v4, m4 = _byte(x, 4, row, inside, at, inputs, 8)
    v5, m5 = _byte(x, 5, row, inside, at, inputs, 8)
    v6, m6 = _byte(x, 6, row, inside, at, inputs, 8)
    v7, m7 = _byte(x, 7, row, inside, at, inputs, 8)
    most = tl.maximum(
        tl.maximum(tl.maximum(m0, m1), tl.maximum(m2, m3)), tl.maximum(tl.maximum(m4, m5), tl.maximum(m6, m7))
    )
    size = tl.maximum(most, 1e-30) / 127.0
    b0, b1, b2, b3 = _rounded(v0, size), _rounded(v1, size), _rounded(v2, size), _rounded(v3, size)
    b4, b5, b6, b7 = _rounded(v4, size), _rounded(v5, size), _rounded(v6, size), _rounded(v7, size)
    # A word's half bytes at even places lie in its bytes' lower halves.
    even = (b0 & 255) | ((b2 & 255) << 8) | ((b4 & 255) << 16) | (b6 << 24)
    odd = (b1 & 255) | ((b3 & 255) << 8) | ((b5 & 255) << 16) | (b7 << 24)
    words = groups * 8
    spot = out + row * 3 * words + group[:, None] * 8 + word[None, :]
    tl.store(spot, even, mask=inside)
    tl.store(spot + words, odd, mask=inside)
    tl.store(spot + 2 * words, b0 + b1 + b2 + b3 + b4 + b5 + b6 + b7, mask=inside)
    tl.store(out_scale + row * groups + group, size, mask=group < groups)


@triton.jit
def _dot4(a, b, total, NATIVE: tl.constexpr):
    """total + the four bytes of a (0 .. 15) times those of b (-127 .. 127)."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, total], dtype=tl.int32, is_pure=True, pack=1
        )
    total += (a & 255) * ((b << 24) >> 24)
    total += ((a >> 8) & 255) * ((b << 16) >> 24)
    total += ((a >> 16) & 255) * ((b << 8) >> 24)
    total += ((a >> 24) & 255) * (b >> 24)
    return total


@triton.jit
def _planes_dot(
    x, x_scale, high, low, scale, out, rows, outputs, groups,
    BOTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUPS: tl.constexpr, STAGES: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    words = groups * 8
    row = tl.arange(0, ROWS)[:, None, None, None]
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :, None, None]
    word = tl.arange(0, 8)[None, None, None, :]
    line = column.to(tl.int64)
    total = tl.zeros((ROWS, COLUMNS, GROUPS, 8), tl.float32)
    for first in tl.range(0, groups, GROUPS, num_stages=STAGES):
        group = first + tl.arange(0, GROUPS)[None, None, :, None]
        at = group * 8 + word
        theirs = (column < outputs) & (group < groups)
        mine = (row < rows) & (group < groups)
        upper = tl.load(high + line * words + at, mask=theirs & (word < 8), other=0, eviction_policy="evict_first")
        if BOTH:
            lower = tl.load(low + line * words + at, mask=theirs & (word < 8), other=0, eviction_policy="evict_first")
        spot = x + row * 3 * words + at
        even = tl.load(spot, mask=mine & (word < 8), other=0)
        odd = tl.load(spot + words, mask=mine & (word < 8), other=0)
        sums = tl.load(spot + 2 * words, mask=mine & (word < 8), other=0)
        size = tl.load(scale + line * groups + group, mask=theirs, other=0.0).to(tl.float32)
        size = size * tl.load(x_scale + row * groups + group, mask=mine, other=0.0)
        start = _BIAS_BITS - 8 * sums
        if BOTH:
            start = tl.zeros_like(sums)
        found = _dot4(upper & 0x0F0F0F0F, even, _dot4((upper >> 4) & 0x0F0F0F0F, odd, start, NATIVE), NATIVE)
        if BOTH:
            start = found * 16 + (_BIAS_BITS - 136 * sums)
            found = _dot4(lower & 0x0F0F0F0F, even, _dot4((lower >> 4) & 0x0F0F0F0F, odd, start, NATIVE), NATIVE)
        total += (found.to(tl.float32, bitcast=True) - _BIAS) * size
    y = tl.sum(tl.sum(total, axis=3), axis=2)
    if not BOTH:
        y = y * 16.0
    target_row, target_column = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(
        out + target_row[:, None].to(tl.int64) * outputs + target_column[None, :], y.to(out.dtype.element_ty),
        mask=(target_row < rows)[:, None] & (target_column < outputs)[None, :],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DotTuning:
    """columns: outputs of a program; groups: of 64 inputs each, in one step of its loop; found by `bench.gpu.tune` on an H100."""

    columns: int
    groups: int
    stages: int
    warps: int


TUNED = {4: DotTuning(columns=8, groups=16, stages=3, warps=4), 8: DotTuning(columns=2, groups=64, stages=1, warps=2)}


def as_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """x: [M, K] bf16. Returns (codes [M, 3, K' / 8] int32, scales [M, K' / 64] fp32).

    codes: for each word of half bytes, the bytes at its even places, those at its odd ones, and the sum of all eight.
    """
    rows, inputs = x.shape
    groups = triton.cdiv(inputs, GROUP)
    out = torch.empty(rows, 3, groups * PER_WORD, device=x.device, dtype=torch.int32)
    scale = torch.empty(rows, groups, device=x.device)
    _bytes[(rows, triton.cdiv(groups, 16))](x, out, scale, inputs, groups, GROUPS=16, num_warps=4)
    return out, scale


def planes_dot(
    x: Tensor, weight: Planes, *, bits: int = 8, dtype: torch.dtype = torch.bfloat16, tuning: DotTuning | None = None
) -> Tensor:
    """x: [M, K] bf16, at most MOST_ROWS rows. Returns [M, N]: exact in whole numbers within a group, fp32 across groups."""
    rows, outputs = x.shape[0], weight.outputs
    how = tuning or TUNED[bits]
    codes, scale = as_bytes(x)
    out = torch.empty(rows, outputs, device=x.device, dtype=dtype)
    _planes_dot[(triton.cdiv(outputs, how.columns),)](
        codes, scale, weight.high, weight.low, weight.scale, out, rows, outputs, weight.scale.shape[1],
        BOTH=bits == 8, ROWS=triton.next_power_of_2(rows), COLUMNS=how.columns, GROUPS=how.groups, STAGES=how.stages,
        NATIVE=x.is_cuda, num_warps=how.warps,
    )  # fmt: skip
    return out
