"""One row times a matrix, at the speed at which the matrix can be read.

In bf16 a weight lies as [K, N]: an input whose activation is zero, pruned or not, has its row of weights skipped. Each program
takes a share of the inputs, and first lists those that count, so that what it then reads is known ahead; the program that comes
last of a column block adds the parts up, in their order, so results do not depend on chance.

e4m3 lies as [N, K]. Programs keep the row in registers and walk over outputs, as in `planes_row`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last
from inference_node.kernels.gpu.tuned import ListTuning, RowTuning

_MOST_SPLITS, _MOST_COLUMNS = 64, 512


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
def _listed(
    x, weight, listed, values, parts, arrived, out, inputs, outputs, share,
    SPLITS: tl.constexpr, SHARE: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
    WHOLE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait_for_last(EARLY)
    block, split = tl.program_id(0), tl.program_id(1)
    columns = block * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < outputs
    offset = tl.arange(0, SHARE)
    row = split * share + offset
    mine = tl.load(x + row, mask=(offset < share) & (row < inputs), other=0.0)
    counts = mine != 0.0
    place = (block * SPLITS + split).to(tl.int64) * SHARE
    target = tl.cumsum(counts.to(tl.int32), axis=0) - 1
    tl.store(listed + place + target, row, mask=counts)
    tl.store(values + place + target, mine.to(tl.float32), mask=counts)
    end = tl.sum(counts.to(tl.int32), axis=0)
    tl.debug_barrier()
    total = tl.zeros((DEPTH, COLUMNS), tl.float32)
    for first in tl.range(0, end, DEPTH, num_stages=STAGES):
        at = first + tl.arange(0, DEPTH)
        # A row that is none has weights that are some, and the value zero.
        line = tl.load(listed + place + at, mask=at < end, other=0)
        value = tl.load(values + place + at, mask=at < end, other=0.0)
        spot = weight + line[:, None].to(tl.int64) * outputs + columns[None, :]
        if WHOLE:
            weights = tl.load(spot, eviction_policy="evict_first")
        else:
            weights = tl.load(spot, mask=inside[None, :], eviction_policy="evict_first")
        total += value[:, None] * weights.to(tl.float32)
    let_next_begin(EARLY)
    tl.store(parts + split * outputs + columns, tl.sum(total, axis=0), mask=inside)
    _last_adds_up(parts, arrived, out, block, columns, outputs, inside, SPLITS, COLUMNS)


@triton.jit
def _narrow(
    x, weight, scale, out, inputs, outputs, blocks,
    COLUMNS: tl.constexpr, INPUTS: tl.constexpr, STAGES: tl.constexpr, WHOLE: tl.constexpr, AHEAD: tl.constexpr,
    AT_ONCE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if AT_ONCE:
        let_next_begin(EARLY)
    first = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    if EARLY and AHEAD > 0:
        soon = tl.minimum(tl.arange(0, AHEAD) * LINE_BYTES, inputs - 1)[None, :]
        soonest = tl.minimum(first * COLUMNS + column, outputs - 1)[:, None].to(tl.int64)
        ask_for(weight + soonest * inputs + soon)
    wait_for_last(EARLY)
    at = tl.arange(0, INPUTS)
    row = tl.load(x + at, mask=at < inputs, other=0.0).to(tl.float32)[None, :]
    for block in tl.range(first, blocks, tl.num_programs(0), num_stages=STAGES):
        output = tl.minimum(block * COLUMNS + column, outputs - 1)
        line = output[:, None].to(tl.int64) * inputs + at[None, :]
        if WHOLE:
            weights = tl.load(weight + line, eviction_policy="evict_first")
        else:
            # Bytes that are no weight may be NaN.
            weights = tl.load(weight + line, mask=(at < inputs)[None, :], other=0.0, eviction_policy="evict_first")
        y = tl.sum(weights.to(tl.float16).to(tl.float32) * row, axis=1) * tl.load(scale + output)
        target = block * COLUMNS + column
        tl.store(out + target, y.to(out.dtype.element_ty), mask=target < outputs)
    if not AT_ONCE:
        let_next_begin(EARLY)


class GemvScratch:
    """Parts of the products of one stream of steps, which follow one another. `arrived` is zero between them."""

    def __init__(self, device: torch.device, outputs: int, multiprocessors: int) -> None:
        self._device, self.multiprocessors = device, multiprocessors
        self.parts = torch.empty(_MOST_SPLITS * (outputs + _MOST_COLUMNS), device=device)
        self.arrived = torch.zeros(outputs // 64 + 1, device=device, dtype=torch.int32)
        self._lists: dict[int, tuple[Tensor, Tensor]] = {}

    def split(self, inputs: int, outputs: int, tuning: ListTuning) -> tuple[int, int]:
        """(how many parts the inputs are cut into, how many inputs each)."""
        blocks, steps = triton.cdiv(outputs, tuning.columns), triton.cdiv(inputs, tuning.depth)
        wanted = max(1, min(_MOST_SPLITS, steps, triton.cdiv(tuning.programs * self.multiprocessors, blocks)))
        share = triton.cdiv(steps, wanted)
        return triton.cdiv(steps, share), share * tuning.depth

    def lists(self, length: int) -> tuple[Tensor, Tensor]:
        """Room for what programs list of their inputs."""
        if length not in self._lists:
            self._lists[length] = (
                torch.empty(length, device=self._device, dtype=torch.int32), torch.empty(length, device=self._device)
            )  # fmt: skip
        return self._lists[length]


def gemv(
    x: Tensor,
    weight: Tensor,
    scratch: GemvScratch,
    *,
    dtype: torch.dtype = torch.bfloat16,
    tuning: ListTuning | None = None,
) -> Tensor:
    """x: [1, K] bf16; weight: [K, N] bf16. Returns [1, N], summed in fp32."""
    inputs, outputs = weight.shape
    how = tuning or tuned.here().lists["bf16"]
    splits, share = scratch.split(inputs, outputs, how)
    blocks, most = triton.cdiv(outputs, how.columns), triton.next_power_of_2(share)
    listed, values = scratch.lists(blocks * splits * most)
    out = torch.empty(1, outputs, device=x.device, dtype=dtype)
    _listed[(blocks, splits)](
        x, weight, listed, values, scratch.parts, scratch.arrived, out, inputs, outputs, share,
        SPLITS=splits, SHARE=most, COLUMNS=how.columns, DEPTH=how.depth, STAGES=how.stages,
        WHOLE=outputs % how.columns == 0, num_warps=how.warps, **overlap.options(x),
    )  # fmt: skip
    return out


def gemv_narrow(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    dtype: torch.dtype = torch.bfloat16,
    at_once: bool = False,
    tuning: RowTuning | None = None,
) -> Tensor:
    """x: [1, K] bf16; weight: [N, K] e4m3; scale: [N] fp32, what each output is multiplied with. Returns [1, N].

    at_once: see `overlap`.
    """
    outputs, inputs = weight.shape
    how = tuning or tuned.here().row("fp8", inputs)
    taken = triton.next_power_of_2(inputs)
    blocks = triton.cdiv(outputs, how.columns)
    out = torch.empty(1, outputs, device=x.device, dtype=dtype)
    _narrow[(min(blocks, how.programs * tuned.multiprocessors()),)](
        x, weight, scale, out, inputs, outputs, blocks, COLUMNS=how.columns, INPUTS=taken, STAGES=how.stages,
        WHOLE=taken == inputs, AHEAD=how.ahead, AT_ONCE=at_once, num_warps=how.warps, **overlap.options(x),
    )  # fmt: skip
    return out
