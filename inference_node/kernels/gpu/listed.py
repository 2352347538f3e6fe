"""One row, of whose inputs only those count that are not zero, times a small bf16 matrix: the others' weights are not read.

As `dense`, but each program first lists which of its inputs count, so that what it then reads is known ahead. Large matrices are
read faster by wider programs that do without the matrix units: `gemv`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last
from inference_node.kernels.gpu.tuned import DenseTuning

# The matrix units take no fewer rows.
_ROWS = tl.constexpr(16)


@triton.jit
def _listed(
    x, weight, lines, values, parts, inputs, outputs, share,
    SHARE: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, WHOLE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    wait_for_last(EARLY)
    block, split = tl.program_id(0), tl.program_id(1)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    offset = tl.arange(0, SHARE)
    place = split * share + offset
    mine = tl.load(x + place, mask=(offset < share) & (place < inputs), other=0.0)
    counts = mine != 0.0
    start = (block * tl.num_programs(1) + split).to(tl.int64) * SHARE
    target = start + tl.cumsum(counts.to(tl.int32), axis=0) - 1
    tl.store(lines + target, place, mask=counts)
    tl.store(values + target, mine, mask=counts)
    end = tl.sum(counts.to(tl.int32), axis=0)
    tl.debug_barrier()
    row = tl.arange(0, _ROWS)
    total = tl.zeros((_ROWS, COLUMNS), tl.float32)
    for first in tl.range(0, end, DEPTH, num_stages=STAGES):
        at = first + tl.arange(0, DEPTH)
        # An input that is none has weights that are some, and the value zero.
        line = tl.load(lines + start + at, mask=at < end, other=0)
        first_row = (row == 0)[:, None] & (at < end)[None, :]
        value = tl.load(values + start + at[None, :] + 0 * row[:, None], mask=first_row, other=0.0)
        spot = weight + line[:, None].to(tl.int64) * outputs + column[None, :]
        if WHOLE:
            weights = tl.load(spot, eviction_policy="evict_first")
        else:
            weights = tl.load(spot, mask=(column < outputs)[None, :], other=0.0, eviction_policy="evict_first")
        total = tl.dot(value, weights, total)
    let_next_begin(EARLY)
    tl.store(parts + split * outputs + column, tl.sum(total, axis=0), mask=column < outputs)


class Lists:
    """Room for what the programs of one stream's steps list, which follow one another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rooms: dict[int, tuple[Tensor, Tensor]] = {}

    def room(self, length: int) -> tuple[Tensor, Tensor]:
        if length not in self._rooms:
            self._rooms[length] = (
                torch.empty(length, device=self._device, dtype=torch.int32),
                torch.empty(length, device=self._device, dtype=torch.bfloat16),
            )
        return self._rooms[length]


def listed(x: Tensor, weight: Tensor, lists: Lists, *, tuning: DenseTuning | None = None) -> Tensor:
    """x: [1, K] bf16; weight: [K, N] bf16. Returns [parts, 1, N] fp32, whose sum over parts is x @ weight."""
    inputs, outputs = weight.shape
    how = tuning or tuned.here().dense["listed"]
    share = triton.cdiv(triton.cdiv(inputs, how.parts), how.depth) * how.depth
    splits, blocks, most = triton.cdiv(inputs, share), triton.cdiv(outputs, how.columns), triton.next_power_of_2(share)
    lines, values = lists.room(blocks * splits * most)
    parts = torch.empty(splits, 1, outputs, device=x.device)
    _listed[(blocks, splits)](
        x, weight, lines, values, parts, inputs, outputs, share, SHARE=most, COLUMNS=how.columns, DEPTH=how.depth,
        STAGES=how.stages, WHOLE=outputs % how.columns == 0, num_warps=how.warps, **overlap.options(x),
    )  # fmt: skip
    return parts
