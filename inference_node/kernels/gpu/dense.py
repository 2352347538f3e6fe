"""A few rows times a bf16 matrix, on the matrix units, in parts that whoever reads the result adds up.

A matrix whose outputs alone would keep too few multiprocessors reading is shared out over its inputs as well. The library does
so too, but adds the parts in a launch of its own, and none of its launches begins early (`overlap`). Here the next launch of a
step, which reads every result anyway, adds the parts as it loads them, in their order.

Of a single row's inputs those that are zero may be skipped (`skips`): the copies into shared memory that the loop has on their
way leave their weights out. It goes round as often as without; where that counts, in small matrices, `listed` is faster.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last
from inference_node.kernels.gpu.tuned import DenseTuning

# The matrix units take no fewer rows.
_LEAST = 16
# Above, the library is as fast.
MOST_ROWS = 32
# Of a number that tells which inputs count.
_BITS = 64


@triton.jit
def _counting(x, first, end, ROUNDS: tl.constexpr, DEPTH: tl.constexpr):
    """Of the one row's inputs from `first` on, which are not zero: [DEPTH], those of the n-th round of a loop in the n-th bit."""
    bit = tl.arange(0, ROUNDS)[:, None]
    place = first + bit * DEPTH + tl.arange(0, DEPTH)[None, :]
    counts = tl.load(x + place, mask=place < end, other=0.0) != 0.0
    kind: tl.constexpr = tl.int64 if ROUNDS > 32 else tl.int32
    return tl.sum(counts.to(kind) << bit.to(kind), axis=0)


@triton.jit
def _dense(
    x, weight, parts, rows, inputs, outputs, share,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, WHOLE: tl.constexpr,
    ROUNDS: tl.constexpr, AHEAD: tl.constexpr, AT_ONCE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if AT_ONCE:
        let_next_begin(EARLY)
    block, split = tl.program_id(0), tl.program_id(1)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.arange(0, ROWS)
    at = tl.arange(0, DEPTH)
    first = split * share
    end = tl.minimum(first + share, inputs)
    if EARLY and AHEAD > 0:
        soon = tl.minimum(first + tl.arange(0, AHEAD), inputs - 1)[:, None].to(tl.int64)
        soonest = tl.minimum(block * COLUMNS + tl.arange(0, COLUMNS * 2 // LINE_BYTES) * (LINE_BYTES // 2), outputs - 1)
        ask_for(weight + soon * outputs + soonest[None, :])
    wait_for_last(EARLY)
    if ROUNDS > 0:
        left = _counting(x, first, end, ROUNDS, DEPTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    tile = at[:, None] * outputs + column[None, :]
    for start in tl.range(first, end, DEPTH, num_stages=STAGES):
        line = start + at
        if ROUNDS > 0:
            # One address a round, and the same distances from it in all: rounds are bound by their instructions.
            spot = weight + start * outputs.to(tl.int64) + tile
        else:
            spot = weight + line[:, None].to(tl.int64) * outputs + column[None, :]
        if ROUNDS > 0:
            mask = (row < rows)[:, None] & (line < end)[None, :]
            given = tl.load(x + row[:, None] * inputs + line[None, :], mask=mask, other=0.0)
            counts = ((left & 1) != 0)[:, None]
            left = left >> 1
            if not WHOLE:
                counts = counts & (column < outputs)[None, :]
            weights = tl.load(spot, mask=counts, other=0.0, eviction_policy="evict_first")
        elif WHOLE:
            given = tl.load(x + row[:, None] * inputs + line[None, :], mask=(row < rows)[:, None], other=0.0)
            weights = tl.load(spot, eviction_policy="evict_first")
        else:
            mask = (row < rows)[:, None] & (line < end)[None, :]
            given = tl.load(x + row[:, None] * inputs + line[None, :], mask=mask, other=0.0)
            mask = (line < end)[:, None] & (column < outputs)[None, :]
            weights = tl.load(spot, mask=mask, other=0.0, eviction_policy="evict_first")
        total = tl.dot(given, weights, total)
    if not AT_ONCE:
        let_next_begin(EARLY)
    target = parts + (split * rows + row)[:, None] * outputs + column[None, :]
    tl.store(target, total, mask=(row < rows)[:, None] & (column < outputs)[None, :])


def dense(
    x: Tensor, weight: Tensor, *, skips: bool = False, at_once: bool = False, tuning: DenseTuning | None = None
) -> Tensor:
    """x: [M, K] bf16, M up to MOST_ROWS; weight: [K, N] bf16. Returns [parts, M, N] fp32, whose sum over parts is x @ weight.

    skips: whether weights of a single row's zeros are left unread. at_once: see `overlap`.
    """
    (rows, inputs), outputs = x.shape, weight.shape[1]
    how = tuning or tuned.here().dense_for(inputs, outputs, skips=skips)
    wanted = max(how.parts, triton.cdiv(inputs, _BITS * how.depth)) if skips else how.parts
    share = triton.cdiv(triton.cdiv(inputs, wanted), how.depth) * how.depth
    splits = triton.cdiv(inputs, share)
    parts = torch.empty(splits, rows, outputs, device=x.device)
    _dense[(triton.cdiv(outputs, how.columns), splits)](
        x, weight, parts, rows, inputs, outputs, share, ROWS=max(_LEAST, triton.next_power_of_2(rows)), COLUMNS=how.columns,
        DEPTH=how.depth, STAGES=how.stages, WHOLE=outputs % how.columns == 0 and inputs % share == 0,
        ROUNDS=triton.next_power_of_2(share // how.depth) if skips else 0, AHEAD=how.ahead, AT_ONCE=at_once,
        num_warps=how.warps, **overlap.options(x),
    )  # fmt: skip
    return parts
