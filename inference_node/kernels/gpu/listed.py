"""One row, of whose inputs only those count that are not zero, times a small bf16 matrix: the others' weights are not read.

As `dense`, but each program first lists which of its inputs count, and then goes round as often as those need.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last
from inference_node.kernels.gpu.tuned import DenseTuning

# That a list can name: two bytes each.
MOST_INPUTS = 1 << 16
# The matrix units take no fewer rows.
_ROWS = tl.constexpr(16)


@triton.jit
def _listed(
    x, weight, lines, values, parts, inputs, outputs, share,
    SHARE: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, WHOLE: tl.constexpr,
    AHEAD: tl.constexpr, AT_ONCE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if AT_ONCE:
        let_next_begin(EARLY)
    block, split = tl.program_id(0), tl.program_id(1)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    at = tl.arange(0, DEPTH)
    first = split * share
    place = first + tl.arange(0, SHARE)
    inside = place < tl.minimum(first + share, inputs)
    if EARLY and AHEAD > 0:
        soon = tl.minimum(first + tl.arange(0, AHEAD), inputs - 1)[:, None].to(tl.int64)
        soonest = tl.minimum(block * COLUMNS + tl.arange(0, COLUMNS * 2 // LINE_BYTES) * (LINE_BYTES // 2), outputs - 1)
        ask_for(weight + soon * outputs + soonest[None, :])
    wait_for_last(EARLY)
    mine = tl.load(x + place, mask=inside, other=0.0)
    counts = mine != 0.0
    start = (block * tl.num_programs(1) + split).to(tl.int64) * (SHARE + 2 * DEPTH)
    target = start + tl.cumsum(counts.to(tl.int32), axis=0) - 1
    end = tl.sum(counts.to(tl.int32), axis=0)
    tl.store(lines + target, place.to(tl.int16), mask=counts)
    tl.store(values + target, mine, mask=counts)
    # So that what the last round and the one after it read is there. Values are zero beyond the end.
    tl.store(lines + start + end + tl.arange(0, 2 * DEPTH), tl.zeros((2 * DEPTH,), tl.int16))
    tl.store(values + start + end + at, tl.zeros((DEPTH,), tl.bfloat16))
    tl.debug_barrier()
    row = tl.arange(0, _ROWS)[:, None]
    first_row = (row == 0) & (at >= 0)[None, :]
    total = tl.zeros((_ROWS, COLUMNS), tl.float32)
    # Known a round early. In four bytes the loop would copy it ahead as it does weights, and have half of those on their way.
    line = tl.load(lines + start + at)
    for done in tl.range(0, end, DEPTH, num_stages=STAGES):
        spot = weight + (line.to(tl.int32) & 0xFFFF)[:, None].to(tl.int64) * outputs + column[None, :]
        value = tl.load(values + start + done + at[None, :] + 0 * row, mask=first_row, other=0.0)
        there = (done + at < end)[:, None]
        if not WHOLE:
            there = there & (column < outputs)[None, :]
        weights = tl.load(spot, mask=there, other=0.0, eviction_policy="evict_first")
        line = tl.load(lines + start + done + DEPTH + at)
        total = tl.dot(value, weights, total)
    if not AT_ONCE:
        let_next_begin(EARLY)
    tl.store(parts + split * outputs + column, tl.sum(total, axis=0), mask=column < outputs)


def listed(x: Tensor, weight: Tensor, *, at_once: bool = False, tuning: DenseTuning | None = None) -> Tensor:
    """x: [1, K] bf16, K up to MOST_INPUTS; weight: [K, N] bf16. Returns [parts, 1, N] fp32, whose sum over parts is x @ weight.

    at_once: see `overlap`.
    """
    inputs, outputs = weight.shape
    how = tuning or tuned.here().dense["listed"]
    share = triton.cdiv(triton.cdiv(inputs, how.parts), how.depth) * how.depth
    splits, blocks, most = triton.cdiv(inputs, share), triton.cdiv(outputs, how.columns), triton.next_power_of_2(share)
    room = blocks * splits * (most + 2 * how.depth)
    lines = torch.empty(room, device=x.device, dtype=torch.int16)
    values = torch.empty(room, device=x.device, dtype=torch.bfloat16)
    parts = torch.empty(splits, 1, outputs, device=x.device)
    _listed[(blocks, splits)](
        x, weight, lines, values, parts, inputs, outputs, share, SHARE=most, COLUMNS=how.columns, DEPTH=how.depth,
        STAGES=how.stages, WHOLE=outputs % how.columns == 0, AHEAD=how.ahead, AT_ONCE=at_once, num_warps=how.warps,
        **overlap.options(x),
    )  # fmt: skip
    return parts
