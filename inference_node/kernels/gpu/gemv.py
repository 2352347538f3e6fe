"""One row times a matrix in e4m3, at the speed at which the matrix can be read.

It lies as [N, K]. Programs keep the row in registers and walk over outputs, as in `planes_row`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.overlap import LINE_BYTES, ask_for, let_next_begin, wait_for_last
from inference_node.kernels.gpu.tuned import RowTuning


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
