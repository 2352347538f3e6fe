"""From a step's qkv product to turned queries, and to keys and values in their pages."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.norm import parts_of
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last


@triton.jit
def _begin(
    tokens, sources, last, positions, runs, tables, embedding, residual, slots, width, table_width, block_size,
    factor, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    # The first of a step: it is launched after all that the step is given was written, and what follows may begin early.
    let_next_begin(EARLY)
    row = tl.program_id(0)
    source = tl.load(sources + row)
    token = tl.load(tokens + row)
    if source >= 0:
        token = tl.load(last + source)
    if tl.program_id(1) == 0:
        position = tl.load(positions + row)
        table = tables + tl.load(runs + row).to(tl.int64) * table_width
        block = tl.load(table + position // block_size)
        tl.store(slots + row, block * block_size + position % block_size)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(embedding + token.to(tl.int64) * width + at, mask=inside, other=0.0)
    x = (x.to(tl.float32) * factor).to(tl.bfloat16)
    tl.store(residual + row.to(tl.int64) * width + at, x, mask=inside)


@triton.jit
def turned(
    qkv, part_stride, row_scale, column_scale, bias, gains, cos, sin, base, row, column, inside, eps,
    PARTS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr, TURNS: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Of heads whose first channels stand in `column` [..., HALF], the channels at even places and at odd ones, fp32."""
    even = tl.load(qkv + base + column, mask=inside, other=0.0).to(tl.float32)
    odd = tl.load(qkv + base + column + 1, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        even += tl.load(qkv + part * part_stride + base + column, mask=inside, other=0.0)
        odd += tl.load(qkv + part * part_stride + base + column + 1, mask=inside, other=0.0)
    if SCALED:
        size = tl.load(row_scale + row)
        even *= size * tl.load(column_scale + column, mask=inside, other=0.0)
        odd *= size * tl.load(column_scale + column + 1, mask=inside, other=0.0)
    if BIASED:
        even += tl.load(bias + column, mask=inside, other=0.0)
        odd += tl.load(bias + column + 1, mask=inside, other=0.0)
    even = even.to(tl.bfloat16).to(tl.float32)
    odd = odd.to(tl.bfloat16).to(tl.float32)
    if NORMED:
        squares = tl.sum(even * even + odd * odd, axis=len(even.shape) - 1, keep_dims=True)
        shrink = tl.rsqrt(squares / D + eps)
        channel = column % D
        even = (even * shrink * tl.load(gains + channel, mask=inside, other=0.0)).to(tl.bfloat16).to(tl.float32)
        odd = (odd * shrink * tl.load(gains + channel + 1, mask=inside, other=0.0)).to(tl.bfloat16).to(tl.float32)
    if TURNS:
        even, odd = even * cos - odd * sin, odd * cos + even * sin
    return even, odd


@triton.jit
def _rope_write(
    qkv, part_stride, row_scale, column_scale, bias, q_gain, k_gain, turns, positions, slots, q_out, pages, page_scales,
    heads, key_heads, eps, scale,
    BLOCK: tl.constexpr, PARTS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr,
    NARROW: tl.constexpr, D: tl.constexpr,
    HALF: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    let_next_begin(EARLY)
    wait_for_last(EARLY)
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pair = tl.arange(0, HALF)
    inside = 2 * pair < D
    column = head * D + 2 * pair
    base = row * (heads + 2 * key_heads) * D
    turn = turns + tl.load(positions + row).to(tl.int64) * D
    cos = tl.load(turn + pair, mask=inside, other=0.0)
    sin = tl.load(turn + D // 2 + pair, mask=inside, other=0.0)
    if head < heads + key_heads:
        even, odd = turned(
            qkv, part_stride, row_scale, column_scale, bias, q_gain if head < heads else k_gain, cos, sin, base, row,
            column, inside, eps, PARTS, SCALED, BIASED, NORMED, True, D,
        )  # fmt: skip
    else:
        even, odd = turned(
            qkv, part_stride, row_scale, column_scale, bias, k_gain, cos, sin, base, row, column, inside, eps,
            PARTS, SCALED, BIASED, False, False, D,
        )  # fmt: skip
    if head < heads:
        target = q_out + (row * heads + head) * D + 2 * pair
        tl.store(target, (even * scale).to(q_out.dtype.element_ty), mask=inside)
        tl.store(target + 1, (odd * scale).to(q_out.dtype.element_ty), mask=inside)
    else:
        # Pages are [block, key or value, head, place, D].
        slot = tl.load(slots + row).to(tl.int64)
        which = (head - heads) // key_heads
        entry = ((slot // BLOCK * 2 + which) * key_heads + (head - heads) % key_heads) * BLOCK + slot % BLOCK
        if NARROW:
            size = tl.maximum(tl.maximum(tl.max(tl.abs(even), axis=0), tl.max(tl.abs(odd), axis=0)), 1e-12) / 448.0
            tl.store(page_scales + entry, size)
            even, odd = even / size, odd / size
        spot = pages + entry * D + 2 * pair
        tl.store(spot, even.to(pages.dtype.element_ty), mask=inside)
        tl.store(spot + 1, odd.to(pages.dtype.element_ty), mask=inside)


def begin(
    tokens: Tensor,
    sources: Tensor,
    last: Tensor,
    positions: Tensor,
    runs: Tensor,
    tables: Tensor,
    embedding: Tensor,
    factor: float,
    block_size: int,
) -> tuple[Tensor, Tensor]:
    """Returns the embeddings [M, C] bf16 and the slots [M] int32 of a step's rows.

    tokens, sources, positions, runs: [M] int32. Where sources is not negative, the token is last[source], which the step before
    left on the device; `runs` names each row's line of `tables` [R, blocks] int32. factor: what embeddings are multiplied with.
    """
    rows, width = tokens.shape[0], embedding.shape[1]
    residual = torch.empty(rows, width, device=tokens.device, dtype=torch.bfloat16)
    slots = torch.empty(rows, device=tokens.device, dtype=torch.int32)
    _begin[(rows, triton.cdiv(width, 1024))](
        tokens, sources, last, positions, runs, tables, embedding, residual, slots, width, tables.shape[1], block_size,
        factor, BLOCK=1024, EARLY=overlap.options(tokens)["EARLY"], num_warps=4,
    )  # fmt: skip
    return residual, slots


@dataclass(frozen=True, slots=True)
class Turning:
    """From a qkv product [M, (H + 2 G) D] or [parts, M, ...], rotary pairs side by side, to queries and keys.

    turns: [positions, 2, D/2] fp32, cosines and sines; scale: what queries are multiplied with; scales: ([M], [N]) fp32 that qkv
    still lacks; bias: [N] fp32; head_gains: ([D], [D]) fp32 of the norms of queries and keys, whose epsilon is eps.
    """

    turns: Tensor
    scale: float
    eps: float
    scales: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None
    head_gains: tuple[Tensor, Tensor] | None = None


def rope_write(
    qkv: Tensor,
    turning: Turning,
    positions: Tensor,
    slots: Tensor,
    pages: Tensor,
    page_scales: Tensor | None,
    heads: int,
) -> Tensor:
    """Writes keys and values into their slots and returns the queries [M, H, D].

    pages: [blocks, 2, G, block size, D] in bf16, or e4m3 with page_scales [blocks, 2, G, block size] fp32, one for each token and
    head. Queries are bf16, and fp16 for narrow pages: e4m3 turns into fp16 exactly and in one instruction, into bf16 in several.
    """
    rows, dim = positions.shape[0], pages.shape[-1]
    key_heads, block_size = pages.shape[2], pages.shape[3]
    narrow = page_scales is not None
    q = torch.empty(rows, heads, dim, device=qkv.device, dtype=torch.float16 if narrow else torch.bfloat16)
    turns = turning.turns
    row_scale, column_scale = turning.scales or (turns, turns)
    q_gain, k_gain = turning.head_gains or (turns, turns)
    _rope_write[(rows, heads + 2 * key_heads)](
        qkv, rows * qkv.shape[-1], row_scale, column_scale, turns if turning.bias is None else turning.bias, q_gain,
        k_gain, turns, positions, slots, q, pages,
        turns if page_scales is None else page_scales, heads, key_heads, turning.eps, turning.scale,
        BLOCK=block_size, PARTS=parts_of(qkv), SCALED=turning.scales is not None, BIASED=turning.bias is not None,
        NORMED=turning.head_gains is not None, NARROW=narrow, D=dim,
        HALF=triton.next_power_of_2(dim // 2), num_warps=1, **overlap.options(qkv, rows),
    )  # fmt: skip
    return q
