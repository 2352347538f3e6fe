"""The gate of the MLP, with pruning and, for fp8 products, quantization of rows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.in_bytes import InBytes, write_bytes
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last

_CHUNK = 1024


@triton.jit
def _gated(
    gate_up, row_scale, column_scale, bias, out, out_scale, tau, kept, real, width, part_stride,
    PARTS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, GELU: tl.constexpr, FP8: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    let_next_begin(EARLY)
    # What no launch of a step writes is read before the wait.
    cut, rows = tl.load(tau), tl.load(real)
    wait_for_last(EARLY)
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    start = row.to(tl.int64) * 2 * width
    gate = tl.load(gate_up + start + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + start + width + at, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        gate += tl.load(gate_up + part * part_stride + start + at, mask=inside, other=0.0)
        up += tl.load(gate_up + part * part_stride + start + width + at, mask=inside, other=0.0)
    if PARTS > 0:
        # A product of one part rounds its result, too.
        gate, up = gate.to(tl.bfloat16).to(tl.float32), up.to(tl.bfloat16).to(tl.float32)
    if SCALED:
        size = tl.load(row_scale + row)
        gate *= size * tl.load(column_scale + at, mask=inside, other=0.0)
        up *= size * tl.load(column_scale + width + at, mask=inside, other=0.0)
    if BIASED:
        gate += tl.load(bias + at, mask=inside, other=0.0)
        up += tl.load(bias + width + at, mask=inside, other=0.0)
    if GELU:
        # tanh(z) = 2 sigmoid(2 z) - 1
        z = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        opened = gate * tl.sigmoid(2.0 * z)
    else:
        opened = gate * tl.sigmoid(gate)
    y = (opened.to(tl.bfloat16).to(tl.float32) * up).to(tl.bfloat16).to(tl.float32)
    y = tl.where(tl.abs(y) > cut, y, 0.0)
    if row < rows:
        tl.atomic_add(kept, tl.sum((y != 0.0).to(tl.int32), axis=0), sem="relaxed")
    target = out + row.to(tl.int64) * width + at
    if FP8:
        scale = tl.maximum(tl.max(tl.abs(y), axis=0), 1e-12) / 448.0
        tl.store(out_scale + row, scale)
        tl.store(target, (y / scale).to(out.dtype.element_ty), mask=inside)
    elif BYTES:
        group = tl.program_id(1) * (BLOCK // 64) + tl.arange(0, BLOCK // 64)
        write_bytes(y, out, out_scale, row.to(tl.int64), group, 2 * tl.cdiv(width, 128), BLOCK // 64)
    else:
        tl.store(target, y.to(tl.bfloat16), mask=inside)


def gated(
    gate_up: Tensor,
    tau: Tensor,
    kept: Tensor,
    real: Tensor,
    *,
    gelu: bool,
    scales: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
    fp8: bool = False,
    in_bytes: bool = False,
    least_rows: int = 1,
) -> tuple[Tensor | InBytes, Tensor | None]:
    """gate_up: [M, 2 I] bf16 or [parts, M, 2 I] fp32, gates and then what they open. Returns act(gate) * up, [M, I].

    The rest is as in `norm.add_norm`.

    scales: ([M], [2 I]) fp32 that gate_up still lacks; bias: [2 I] fp32.
    """
    rows, width = gate_up.shape[-2], gate_up.shape[-1] // 2
    made = InBytes.empty(rows, width, gate_up.device) if in_bytes else None
    scale: Tensor | None
    if made is not None:
        out, scale = made.codes, made.scales
    else:
        dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
        out = torch.empty(max(rows, least_rows), width, device=gate_up.device, dtype=dtype)
        scale = torch.empty(rows, device=gate_up.device) if fp8 else None
    row_scale, column_scale = (tau, tau) if scales is None else scales
    # A row's scale is known when all of it has been seen, so one program sees it all.
    block = max(128, triton.next_power_of_2(width))
    block = block if fp8 else min(_CHUNK, block)
    _gated[(rows, triton.cdiv(width, block))](
        gate_up, row_scale, column_scale, tau if bias is None else bias, out, tau if scale is None else scale,
        tau, kept, real, width, 2 * rows * width,
        PARTS=gate_up.shape[0] if gate_up.ndim == 3 else 0,
        SCALED=scales is not None, BIASED=bias is not None, GELU=gelu, FP8=fp8, BYTES=in_bytes, BLOCK=block,
        num_warps=max(1, min(16, block // 256)), **overlap.options(gate_up, rows),
    )  # fmt: skip
    return (out, scale) if made is None else (made, None)
