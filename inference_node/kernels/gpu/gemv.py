"""One row times a matrix, at the speed at which the matrix can be read.

In bf16 a weight lies as [K, N]: an input whose activation is zero, pruned or not, has its row of weights skipped. Inputs
are split over programs; the one that comes last of a column block adds the parts up, in their order, so results do not
depend on chance. e4m3 lies as [N, K], and a program has all inputs of its outputs.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last

_MOST_SPLITS, _MOST_COLUMNS = 64, 512
# Weights from which on wide programs are faster.
_LARGE = 40_000_000


@triton.jit
def _last_adds_up(parts, arrived, out, block, columns, outputs, inside, SPLITS: tl.constexpr, COLUMNS: tl.constexpr):
    tl.debug_barrier()
    count = tl.atomic_add(arrived + block, 1, sem="acq_rel", scope="gpu")
    if count == SPLITS - 1:
        tl.store(arrived + block, 0)
        total = tl.zeros((COLUMNS,), tl.float32)
        for index in tl.static_range(SPLITS):
            total += tl.load(parts + index * outputs + columns, mask=inside, other=0.0, cache_modifier=".cg")
        tl.store(out + columns, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _bf16(
    x, weight, parts, arrived, out, inputs, outputs, share,
    SPLITS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, UNROLL: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    block, split = tl.program_id(0), tl.program_id(1)
    columns = block * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < outputs
    begin = split * share
    end = tl.minimum(begin + share, inputs)
    total = tl.zeros((DEPTH, COLUMNS), tl.float32)
    for k in tl.range(begin, end, DEPTH * UNROLL, num_stages=STAGES):
        for step in tl.static_range(UNROLL):
            row = k + step * DEPTH + tl.arange(0, DEPTH)
            value = tl.load(x + row, mask=row < end, other=0.0).to(tl.float32)
            weights = tl.load(
                weight + row[:, None].to(tl.int64) * outputs + columns[None, :],
                mask=(value != 0.0)[:, None] & inside[None, :], other=0.0, eviction_policy="evict_first",
            )  # fmt: skip
            total += value[:, None] * weights.to(tl.float32)
    tl.store(parts + split * outputs + columns, tl.sum(total, axis=0), mask=inside)
    _last_adds_up(parts, arrived, out, block, columns, outputs, inside, SPLITS, COLUMNS)


@triton.jit
def _narrow(
    x, weight, scale, out, inputs, outputs,
    COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < outputs
    total = tl.zeros((COLUMNS, DEPTH), tl.float32)
    line = column[:, None].to(tl.int64) * inputs
    if EARLY and AHEAD > 0:
        soon = tl.minimum(tl.arange(0, AHEAD) * LINE_BYTES, inputs - 1)
        ask_for(weight + tl.minimum(column, outputs - 1)[:, None].to(tl.int64) * inputs + soon[None, :])
    wait_for_last(EARLY)
    for k in tl.range(0, inputs, DEPTH, num_stages=STAGES):
        depth = k + tl.arange(0, DEPTH)
        value = tl.load(x + depth, mask=depth < inputs, other=0.0).to(tl.float32)
        weights = tl.load(
            weight + line + depth[None, :], mask=inside[:, None] & (depth < inputs)[None, :], other=0.0,
            eviction_policy="evict_first",
        )  # fmt: skip
        total += weights.to(tl.float16).to(tl.float32) * value[None, :]
    let_next_begin(EARLY)
    y = tl.sum(total, axis=1) * tl.load(scale + column, mask=inside, other=0.0)
    tl.store(out + column, y.to(out.dtype.element_ty), mask=inside)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How one format's product is cut up; found by `bench.gpu.tune` on an H100.

    columns: outputs of a program; depth: inputs of one step of its loop, times `unroll` in bf16; programs: per multiprocessor, at
    least, that the inputs are split for in bf16; ahead: in e4m3, cache lines of each output that a program asks for while the
    launch before it still runs.
    """

    columns: int
    depth: int
    unroll: int
    stages: int
    programs: int
    warps: int = 4
    ahead: int = 8


TUNED = {
    "bf16, small": Tuning(columns=128, depth=8, unroll=4, stages=3, programs=4),
    "bf16": Tuning(columns=512, depth=8, unroll=2, stages=2, programs=4),
    "fp8": Tuning(columns=8, depth=512, unroll=1, stages=5, programs=4, ahead=8),
}


class GemvScratch:
    """Parts of the products of one stream of steps, which follow one another. `arrived` is zero between them."""

    def __init__(self, device: torch.device, outputs: int, multiprocessors: int) -> None:
        self.multiprocessors = multiprocessors
        self.parts = torch.empty(_MOST_SPLITS * (outputs + _MOST_COLUMNS), device=device)
        self.arrived = torch.zeros(outputs // 64 + 1, device=device, dtype=torch.int32)

    def split(self, inputs: int, outputs: int, tuning: Tuning) -> tuple[int, int]:
        """(how many parts the inputs are cut into, how many inputs each): whole steps of a program's loop."""
        step = tuning.depth * tuning.unroll
        blocks, steps = triton.cdiv(outputs, tuning.columns), triton.cdiv(inputs, step)
        wanted = max(1, min(_MOST_SPLITS, steps, triton.cdiv(tuning.programs * self.multiprocessors, blocks)))
        share = triton.cdiv(steps, wanted)
        return triton.cdiv(steps, share), share * step


def gemv(
    x: Tensor,
    weight: Tensor,
    scratch: GemvScratch,
    *,
    dtype: torch.dtype = torch.bfloat16,
    tuning: Tuning | None = None,
) -> Tensor:
    """x: [1, K] bf16; weight: [K, N] bf16. Returns [1, N], summed in fp32."""
    inputs, outputs = weight.shape
    how = tuning or TUNED["bf16" if weight.numel() > _LARGE else "bf16, small"]
    splits, share = scratch.split(inputs, outputs, how)
    out = torch.empty(1, outputs, device=x.device, dtype=dtype)
    _bf16[(triton.cdiv(outputs, how.columns), splits)](
        x, weight, scratch.parts, scratch.arrived, out, inputs, outputs, share,
        SPLITS=splits, COLUMNS=how.columns, DEPTH=how.depth, UNROLL=how.unroll, STAGES=how.stages, num_warps=how.warps,
    )  # fmt: skip
    return out


def gemv_narrow(
    x: Tensor, weight: Tensor, scale: Tensor, *, dtype: torch.dtype = torch.bfloat16, tuning: Tuning | None = None
) -> Tensor:
    """x: [1, K] bf16; weight: [N, K] e4m3; scale: [N] fp32, what each output is multiplied with. Returns [1, N]."""
    how = tuning or TUNED["fp8"]
    outputs, inputs = weight.shape
    out = torch.empty(1, outputs, device=x.device, dtype=dtype)
    _narrow[(triton.cdiv(outputs, how.columns),)](
        x, weight, scale, out, inputs, outputs, COLUMNS=how.columns, DEPTH=how.depth, STAGES=how.stages,
        AHEAD=how.ahead, num_warps=how.warps, **overlap.options(x),
    )  # fmt: skip
    return out
