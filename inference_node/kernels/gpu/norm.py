"""Residual add, RMSNorm, pruning and, for fp8 products, quantization of rows: one pass over a row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.in_bytes import InBytes, write_bytes
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last


@triton.jit
def _add_norm(
    residual, delta, delta_row, delta_column, delta_bias, delta_gain, gain, out, out_scale, tau, kept, real,
    width, eps, part_stride,
    HAS_DELTA: tl.constexpr, PARTS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr,
    FP8: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    let_next_begin(EARLY)
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    start = row.to(tl.int64) * width
    # What no launch of a step writes is read before the wait.
    gains = tl.load(gain + at, mask=inside, other=0.0)
    cut, rows = tl.load(tau), tl.load(real)
    wait_for_last(EARLY)
    x = tl.load(residual + start + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_DELTA:
        d = tl.load(delta + start + at, mask=inside, other=0.0).to(tl.float32)
        for part in tl.static_range(1, PARTS):
            d += tl.load(delta + part * part_stride + start + at, mask=inside, other=0.0)
        if SCALED:
            d = d * tl.load(delta_row + row) * tl.load(delta_column + at, mask=inside, other=0.0)
        if BIASED:
            d += tl.load(delta_bias + at, mask=inside, other=0.0)
        if NORMED:
            d = d.to(tl.bfloat16).to(tl.float32)
            d = d * tl.rsqrt(tl.sum(d * d, axis=0) / width + eps)
            d = d * tl.load(delta_gain + at, mask=inside, other=0.0)
        # Rounded before the sum and after, as the model was trained.
        x = (x + d.to(tl.bfloat16).to(tl.float32)).to(tl.bfloat16).to(tl.float32)
        tl.store(residual + start + at, x.to(tl.bfloat16), mask=inside)
    y = x * tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    y = (y * gains).to(tl.bfloat16).to(tl.float32)
    y = tl.where(tl.abs(y) > cut, y, 0.0)
    if row < rows:
        tl.atomic_add(kept, tl.sum((y != 0.0).to(tl.int32), axis=0), sem="relaxed")
    if FP8:
        scale = tl.maximum(tl.max(tl.abs(y), axis=0), 1e-12) / 448.0
        tl.store(out_scale + row, scale)
        tl.store(out + start + at, (y / scale).to(out.dtype.element_ty), mask=inside)
    elif BYTES:
        group = tl.arange(0, BLOCK // 64)
        write_bytes(y, out, out_scale, row.to(tl.int64), group, 2 * tl.cdiv(width, 128), BLOCK // 64)
    else:
        tl.store(out + start + at, y.to(tl.bfloat16), mask=inside)


@triton.jit
def _quantize_rows(x, out, out_scale, width, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    let_next_begin(EARLY)
    wait_for_last(EARLY)
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    start = row.to(tl.int64) * width
    y = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(y), axis=0), 1e-12) / 448.0
    tl.store(out_scale + row, scale)
    tl.store(out + start + at, (y / scale).to(out.dtype.element_ty), mask=inside)


def parts_of(product: Tensor | None) -> int:
    """Of what a product gave back, [M, N] or [parts, M, N]: how many there are to be added up."""
    return product.shape[0] if product is not None and product.ndim == 3 else 1


def add_norm(
    residual: Tensor,
    delta: Tensor | None,
    gain: Tensor,
    eps: float,
    tau: Tensor,
    kept: Tensor,
    real: Tensor,
    *,
    delta_scales: tuple[Tensor, Tensor] | None = None,
    delta_bias: Tensor | None = None,
    delta_gain: Tensor | None = None,
    fp8: bool = False,
    in_bytes: bool = False,
    least_rows: int = 1,
) -> tuple[Tensor | InBytes, Tensor | None]:
    """residual: [M, C] bf16, changed in place to residual + delta; delta: what a product gave back, [M, C] bf16 or
    [parts, M, C] fp32.

    delta_scales: ([M], [C]) fp32 that delta still lacks; delta_bias, delta_gain: [C] fp32, added, and the gain of a norm of
    delta's own. gain: [C] fp32. tau: [1] fp32, the magnitude up to which a result counts as zero; kept: [1] int32, counts the
    others, of the first `real` ([1] int32) rows. Returns (rows [M, C] in bf16 or bytes, None), or (in e4m3, their scales [M]);
    these have at least `least_rows` rows, and nothing is said of those beyond M.
    """
    rows, width = residual.shape
    made = InBytes.empty(rows, width, residual.device) if in_bytes else None
    scale: Tensor | None
    if made is not None:
        out, scale = made.codes, made.scales
    else:
        dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
        out = torch.empty(max(rows, least_rows), width, device=residual.device, dtype=dtype)
        scale = torch.empty(rows, device=residual.device) if fp8 else None
    row_scale, column_scale = (gain, gain) if delta_scales is None else delta_scales
    block = max(128, triton.next_power_of_2(width))
    _add_norm[(rows,)](
        residual, residual if delta is None else delta, row_scale, column_scale,
        gain if delta_bias is None else delta_bias, gain if delta_gain is None else delta_gain,
        gain, out, gain if scale is None else scale, tau, kept, real, width, eps, residual.numel(),
        HAS_DELTA=delta is not None, PARTS=parts_of(delta), SCALED=delta_scales is not None, BIASED=delta_bias is not None,
        NORMED=delta_gain is not None, FP8=fp8, BYTES=in_bytes, BLOCK=block, num_warps=max(1, min(16, block // 512)),
        **overlap.options(residual),
    )  # fmt: skip
    return (out, scale) if made is None else (made, None)


def quantize_rows(x: Tensor, *, least_rows: int = 1) -> tuple[Tensor, Tensor]:
    """x: [M, K] bf16. Returns it in e4m3, each row by a scale of its own, and the scales [M] fp32; least_rows as in add_norm."""
    rows, width = x.shape
    out = torch.empty(max(rows, least_rows), width, device=x.device, dtype=torch.float8_e4m3fn)
    scale = torch.empty(rows, device=x.device)
    block = triton.next_power_of_2(width)
    warps = max(1, min(16, block // 512))
    _quantize_rows[(rows,)](x, out, scale, width, BLOCK=block, num_warps=warps, **overlap.options(x))
    return out, scale
