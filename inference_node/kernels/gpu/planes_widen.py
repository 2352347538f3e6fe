"""A matrix in half bytes as bf16 in passing: with many rows the product's arithmetic hides what writing it costs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu.planes import Planes

_COLUMNS, _GROUPS = 8, 8


@triton.jit
def _widen(
    high, low, scale, out, inputs, outputs, groups,
    BOTH: tl.constexpr, COLUMNS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[:, None, None]
    group = (tl.program_id(1) * GROUPS + tl.arange(0, GROUPS))[None, :, None]
    word = tl.arange(0, 8)[None, None, :]
    line = column.to(tl.int64)
    there = (column < outputs) & (group < groups)
    at = line * groups * 8 + group * 8 + word
    upper = tl.load(high + at, mask=there & (word < 8), other=0, eviction_policy="evict_first")
    lower = upper
    if BOTH:
        lower = tl.load(low + at, mask=there & (word < 8), other=0, eviction_policy="evict_first")
    size = tl.load(scale + line * groups + group, mask=there, other=0.0).to(tl.float32)
    for place in tl.static_range(8):
        whole = ((upper >> (4 * place)) & 15) * 16 - 128
        if BOTH:
            whole += ((lower >> (4 * place)) & 15) - 8
        k = group * 64 + 8 * place + word
        value = (whole.to(tl.float32) * size).to(tl.bfloat16)
        tl.store(out + line * inputs + k, value, mask=(column < outputs) & (k < inputs))


def planes_widened(weight: Planes, bits: int) -> Tensor:
    """The weights that a product in 4 or 8 bits uses, rounded to bf16: [N, K]."""
    outputs, groups = weight.scale.shape
    out = torch.empty(outputs, weight.inputs, device=weight.high.device, dtype=torch.bfloat16)
    _widen[(triton.cdiv(outputs, _COLUMNS), triton.cdiv(groups, _GROUPS))](
        weight.high, weight.low, weight.scale, out, weight.inputs, outputs, groups,
        BOTH=bits == 8, COLUMNS=_COLUMNS, GROUPS=_GROUPS, num_warps=4,
    )  # fmt: skip
    return out
