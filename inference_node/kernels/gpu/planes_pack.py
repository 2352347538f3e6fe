"""A matrix of bf16 into half bytes, in one pass over it: the same bits as `planes.pack`, which takes some twenty."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu.planes import GROUP, LARGEST, PAIR, Planes

_COLUMNS, _GROUPS = 32, 2


@triton.jit
def _pack(
    weight, high, low, scale, inputs, outputs, groups, output_stride, input_stride,
    LARGEST: tl.constexpr, COLUMNS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[:, None, None, None]
    group = (tl.program_id(1) * GROUPS + tl.arange(0, GROUPS))[None, :, None, None]
    place = tl.arange(0, 8)[None, None, :, None]
    word = tl.arange(0, 8)[None, None, None, :]
    line = column.to(tl.int64)
    k = group * 64 + 8 * place + word
    there = (column < outputs) & (k < inputs)
    x = tl.load(weight + line * output_stride + k.to(tl.int64) * input_stride, mask=there, other=0.0).to(tl.float32)
    size = tl.max(tl.max(tl.abs(x), axis=3, keep_dims=True), axis=2, keep_dims=True)
    size = tl.maximum(tl.div_rn(size, tl.full(size.shape, LARGEST, tl.float32)), 1e-30).to(tl.bfloat16)
    scaled = tl.div_rn(x, tl.broadcast_to(size.to(tl.float32), x.shape))
    # Adding 1.5 * 2^23 leaves no bit behind the point, rounded to even.
    scaled = tl.minimum(tl.maximum((scaled + 12582912.0) - 12582912.0, -LARGEST - 1.0), LARGEST)
    whole = scaled.to(tl.int32)
    upper = tl.minimum(tl.maximum((whole + 8) >> 4, -8), 7)
    lower = tl.minimum(tl.maximum(whole - 16 * upper, -8), 7)
    # Bits of different half bytes do not meet, so a sum joins them.
    uppers = tl.sum((upper + 8) << (4 * place), axis=2, keep_dims=True)
    lowers = tl.sum((lower + 8) << (4 * place), axis=2, keep_dims=True)
    known = (column < outputs) & (group < groups)
    at = line * groups * 8 + group * 8 + word
    tl.store(high + at, uppers, mask=known & (word < 8))
    tl.store(low + at, lowers, mask=known & (word < 8))
    tl.store(scale + line * groups + group, size, mask=known)


def pack_on_device(weight: Tensor) -> Planes:
    """weight: [N, K] of any strides, in a float dtype."""
    outputs, inputs = weight.shape
    groups = triton.cdiv(inputs, PAIR) * (PAIR // GROUP)
    high, low = (torch.empty(outputs, groups * 8, device=weight.device, dtype=torch.int32) for _ in range(2))
    scale = torch.empty(outputs, groups, device=weight.device, dtype=torch.bfloat16)
    _pack[(triton.cdiv(outputs, _COLUMNS), triton.cdiv(groups, _GROUPS))](
        weight, high, low, scale, inputs, outputs, groups, weight.stride(0), weight.stride(1),
        LARGEST=LARGEST, COLUMNS=_COLUMNS, GROUPS=_GROUPS, num_warps=4,
    )  # fmt: skip
    return Planes(high, low, scale, inputs)
