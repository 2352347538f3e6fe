"""A few rows times a matrix in half bytes, by dot products of whole numbers: activations are bytes, 64 to a scale.

Turning half bytes into floats costs more instructions than memory gives time for. The instruction `dp4a` multiplies four
bytes with four bytes and adds them up: eight half bytes take an `and`, a shift, an `and` and two of it.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.in_bytes import InBytes, as_bytes
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last
from inference_node.kernels.gpu.planes import Planes

# Above, a thread has too few registers, and products on the matrix units are faster.
MOST_ROWS = 2
# Whole numbers below 2^22 added to these bits are added to the float 1.5 * 2^23: a conversion in one addition.
_BIAS_BITS = tl.constexpr(0x4B400000)
_BIAS = tl.constexpr(12582912.0)


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
    NATIVE: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    words = groups * 8
    row = tl.arange(0, ROWS)[:, None, None, None]
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :, None, None]
    word = tl.arange(0, 8)[None, None, None, :]
    line = column.to(tl.int64)
    if EARLY and AHEAD > 0:
        soon = tl.minimum(tl.arange(0, AHEAD) * (LINE_BYTES // 4), words - 1)[None, :]
        output = tl.minimum(tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), outputs - 1)[:, None].to(tl.int64)
        ask_for(high + output * words + soon)
        if BOTH:
            ask_for(low + output * words + soon)
    wait_for_last(EARLY)
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
    let_next_begin(EARLY)
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
    """columns: outputs of a program; groups: of 64 inputs each, in one step of its loop; ahead: cache lines of each output that a
    program asks for while the launch before it still runs. Found by `bench.gpu.tune` on an H100."""

    columns: int
    groups: int
    stages: int
    warps: int
    ahead: int = 8


TUNED = {
    4: DotTuning(columns=8, groups=16, stages=3, warps=4, ahead=8),
    8: DotTuning(columns=2, groups=64, stages=1, warps=2, ahead=0),
}


def planes_dot(
    x: Tensor | InBytes,
    weight: Planes,
    *,
    bits: int = 8,
    dtype: torch.dtype = torch.bfloat16,
    tuning: DotTuning | None = None,
) -> Tensor:
    """x: [M, K] bf16 or bytes, M up to MOST_ROWS. Returns [M, N]: exact in whole numbers within a group, fp32 across groups."""
    given = x if isinstance(x, InBytes) else as_bytes(x)
    device = given.codes.device
    rows, outputs = given.scales.shape[0], weight.outputs
    how = tuning or TUNED[bits]
    out = torch.empty(rows, outputs, device=device, dtype=dtype)
    _planes_dot[(triton.cdiv(outputs, how.columns),)](
        given.codes, given.scales, weight.high, weight.low, weight.scale, out, rows, outputs, weight.scale.shape[1],
        BOTH=bits == 8, ROWS=triton.next_power_of_2(rows), COLUMNS=how.columns, GROUPS=how.groups, STAGES=how.stages,
        NATIVE=device.type == "cuda", AHEAD=how.ahead, num_warps=how.warps, **overlap.options(given.codes),
    )  # fmt: skip
    return out
