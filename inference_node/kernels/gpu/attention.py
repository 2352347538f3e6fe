"""Attention over pages: split over the context for single tokens, in tiles of queries for prompts.

Method: Dao et al., "FlashAttention" (2022), algorithm 1; the split over the context as in Dao et al., "Flash-Decoding" (2023).
The number of splits is fixed by the grid, their length is read from the device, so that one CUDA graph serves any lengths.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.in_bytes import InBytes, write_bytes
from inference_node.kernels.gpu.norm import parts_of
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last
from inference_node.kernels.gpu.planes import PAIR
from inference_node.kernels.gpu.rope import Turning, turned
from inference_node.kernels.gpu.tuned import AttentionTuning

# Of what splits leave, numbers that are added up at once: more would not fit into registers.
_PIECES = 8192


@triton.jit
def _tile_of_pages(
    pages, page_scales, table, first, end, which, head, key_heads,
    BLOCK: tl.constexpr, NARROW: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """TILE tokens from `first` of one head's keys (which = 0) or values (1): [TILE, BLOCK_D], and their scales [TILE]."""
    token = first + tl.arange(0, TILE)
    seen = token < end
    block = tl.load(table + token // BLOCK, mask=seen, other=0).to(tl.int64)
    entry = ((block * 2 + which) * key_heads + head) * BLOCK + token % BLOCK
    at = tl.arange(0, BLOCK_D)
    mask = seen[:, None] & (at < D)[None, :]
    x = tl.load(pages + entry[:, None] * D + at[None, :], mask=mask, other=0.0)
    # One return: a kernel's function gives back one type, even where only one of two branches is compiled.
    scales = tl.full((TILE,), 1.0, tl.float32)
    if NARROW:
        x = x.to(tl.float16)
        scales = tl.load(page_scales + entry, mask=seen, other=0.0)
    return x, scales


@triton.jit
def _written(
    even, odd, pages, page_scales, slot, pair, inside, NARROW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """One token's keys or values into their slot. Returns them as they are read again, [BLOCK_D] fp32, and their scale."""
    size = tl.max(tl.abs(even), axis=0) * 0.0 + 1.0
    if NARROW:
        size = tl.maximum(tl.maximum(tl.max(tl.abs(even), axis=0), tl.max(tl.abs(odd), axis=0)), 1e-12) / 448.0
        tl.store(page_scales + slot, size)
        even, odd = even / size, odd / size
    even, odd = even.to(pages.dtype.element_ty), odd.to(pages.dtype.element_ty)
    tl.store(pages + slot * D + 2 * pair, even, mask=inside)
    tl.store(pages + slot * D + 2 * pair + 1, odd, mask=inside)
    return tl.reshape(tl.join(even.to(tl.float32), odd.to(tl.float32)), (BLOCK_D,)), size


@triton.jit
def _with_tile(
    queries, keys, key_scales, values, value_scales, seen, largest, total, mixed, NARROW: tl.constexpr
):  # fmt: skip
    """What queries have gathered, [ROWS] their largest score and sum, and a tile more; seen: which of its tokens count."""
    scores = tl.dot(queries, tl.trans(keys))
    if NARROW:
        scores *= key_scales[None, :]
    scores = tl.where(seen, scores, float("-inf"))
    # A tile may lie wholly before the window.
    now = tl.maximum(tl.maximum(largest, tl.max(scores, axis=1)), -1e30)
    weights = tl.exp(scores - now[:, None])
    shrink = tl.exp(largest - now)
    total = total * shrink + tl.sum(weights, axis=1)
    if NARROW:
        weights *= value_scales[None, :]
    mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values)
    return now, total, mixed


@triton.jit
def _decode(
    q, part_stride, row_scale, column_scale, bias, q_gain, k_gain, turns, pages, page_scales, positions, runs, tables, out,
    out_scale, partial, partial_max, partial_sum, arrived, tau, kept, real, heads, key_heads, table_width, window, eps, scale,
    TURN: tl.constexpr, PARTS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr,
    BLOCK: tl.constexpr, NARROW: tl.constexpr, FOLD: tl.constexpr, ROWS: tl.constexpr, LEFT: tl.constexpr, SPLITS: tl.constexpr,
    PIECES: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BYTES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    row, head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    end = tl.load(positions + row) + 1
    begin = 0
    if window > 0:
        begin = tl.maximum(end - window, 0)
    first = begin // TILE * TILE
    tiles = tl.cdiv(end - first, TILE)
    share = tl.cdiv(tiles, SPLITS)
    start = first + split * share * TILE
    stop = tl.minimum(start + share * TILE, end)

    member = tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK_D)
    mine = (member < FOLD)[:, None] & (at < D)[None, :]
    lines = row * heads + head * FOLD + member
    table = tables + tl.load(runs + row).to(tl.int64) * table_width
    pair = tl.arange(0, BLOCK_D // 2)
    paired = 2 * pair < D
    base = row * (heads + 2 * key_heads) * D
    cut, rows = tl.load(tau), tl.load(real)
    if TURN:
        turn = turns + (end - 1).to(tl.int64) * D
        cos = tl.load(turn + pair, mask=paired, other=0.0)
        sin = tl.load(turn + D // 2 + pair, mask=paired, other=0.0)
        # The row's own token is not in the pages yet. All others are since before the step, so that the first tile is read
        # while the product ahead still runs.
        has_own = (start < end) & (stop == end)
        stop = tl.minimum(stop, end - 1)
        first_keys, first_key_scales = _tile_of_pages(
            pages, page_scales, table, start, stop, 0, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
        first_values, first_value_scales = _tile_of_pages(
            pages, page_scales, table, start, stop, 1, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
    wait_for_last(EARLY)
    # Not before: where this begins beside the product ahead, the product behind would be beside that, too.
    let_next_begin(EARLY)
    if TURN:
        even, odd = turned(
            q, part_stride, row_scale, column_scale, bias, q_gain, cos[None, :], sin[None, :], base, row,
            (head * FOLD + member)[:, None] * D + 2 * pair[None, :], (member < FOLD)[:, None] & paired[None, :], eps,
            PARTS, SCALED, BIASED, NORMED, True, D,
        )  # fmt: skip
        queries = tl.reshape(tl.join(even, odd), (ROWS, BLOCK_D)) * scale
        queries = queries.to(tl.float16 if NARROW else tl.bfloat16)
        # In all splits, so that they are read with the queries, not after them.
        key_even, key_odd = turned(
            q, part_stride, row_scale, column_scale, bias, k_gain, cos, sin, base, row, (heads + head) * D + 2 * pair,
            paired, eps, PARTS, SCALED, BIASED, NORMED, True, D,
        )  # fmt: skip
        value_even, value_odd = turned(
            q, part_stride, row_scale, column_scale, bias, k_gain, cos, sin, base, row,
            (heads + key_heads + head) * D + 2 * pair, paired, eps, PARTS, SCALED, BIASED, False, False, D,
        )  # fmt: skip
    else:
        queries = tl.load(q + lines[:, None] * D + at[None, :], mask=mine, other=0.0)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, BLOCK_D), tl.float32)
    if TURN:
        if has_own:
            slot = (tl.load(table + (end - 1) // BLOCK).to(tl.int64) * 2 * key_heads + head) * BLOCK + (end - 1) % BLOCK
            key, key_size = _written(key_even, key_odd, pages, page_scales, slot, pair, paired, NARROW, D, BLOCK_D)
            slot += key_heads * BLOCK
            value, value_size = _written(
                value_even, value_odd, pages, page_scales, slot, pair, paired, NARROW, D, BLOCK_D
            )
            largest = tl.sum(queries.to(tl.float32) * key[None, :], axis=1) * key_size
            total = tl.full((ROWS,), 1.0, tl.float32)
            mixed = tl.zeros((ROWS, BLOCK_D), tl.float32) + value_size * value[None, :]
        token = start + tl.arange(0, TILE)
        largest, total, mixed = _with_tile(
            queries, first_keys, first_key_scales, first_values, first_value_scales,
            ((token < stop) & (token >= begin))[None, :], largest, total, mixed, NARROW,
        )  # fmt: skip
        start += TILE
    for tile in range(start, stop, TILE):
        keys, key_scales = _tile_of_pages(
            pages, page_scales, table, tile, stop, 0, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
        values, value_scales = _tile_of_pages(
            pages, page_scales, table, tile, stop, 1, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
        token = tile + tl.arange(0, TILE)
        largest, total, mixed = _with_tile(
            queries, keys, key_scales, values, value_scales, ((token < stop) & (token >= begin))[None, :],
            largest, total, mixed, NARROW,
        )  # fmt: skip

    if SPLITS > 1:
        place = lines * SPLITS + split
        tl.store(partial_max + place, largest, mask=member < FOLD)
        tl.store(partial_sum + place, total, mask=member < FOLD)
        tl.store(partial + place[:, None] * D + at[None, :], mixed, mask=mine)
        # The split that comes last adds all of them up, in their order.
        tl.debug_barrier()
        count = tl.atomic_add(arrived + row * key_heads + head, 1, sem="acq_rel", scope="gpu")
        if count < SPLITS - 1:
            return
        tl.store(arrived + row * key_heads + head, 0)
        # No more rows than there are, so that all pieces are on their way at once.
        member = tl.arange(0, LEFT)
        mine = (member < FOLD)[:, None] & (at < D)[None, :]
        lines = row * heads + head * FOLD + member
        part = tl.arange(0, SPLITS)
        places = lines[:, None] * SPLITS + part[None, :]
        few = (member < FOLD)[:, None] & (part >= 0)[None, :]
        tops = tl.load(partial_max + places, mask=few, other=float("-inf"), cache_modifier=".cg")
        sums = tl.load(partial_sum + places, mask=few, other=0.0, cache_modifier=".cg")
        largest = tl.maximum(tl.max(tops, axis=1), -1e30)
        total = tl.sum(sums * tl.exp(tops - largest[:, None]), axis=1)
        mixed = tl.zeros((LEFT, BLOCK_D), tl.float32)
        for index in tl.static_range(0, SPLITS, PIECES):
            places = lines[:, None] * SPLITS + index + tl.arange(0, PIECES)[None, :]
            there = (member < FOLD)[:, None] & (places >= 0)
            top = tl.load(partial_max + places, mask=there, other=float("-inf"), cache_modifier=".cg")
            spot = partial + places[:, :, None] * D + at[None, None, :]
            pieces = tl.load(spot, mask=mine[:, None, :] & there[:, :, None], other=0.0, cache_modifier=".cg")
            mixed += tl.sum(pieces * tl.exp(top - largest[:, None])[:, :, None], axis=1)
    y = (mixed / tl.maximum(total, 1e-30)[:, None]).to(tl.bfloat16).to(tl.float32)
    y = tl.where(tl.abs(y) > cut, y, 0.0)
    if row < rows:
        tl.atomic_add(kept, tl.sum(tl.sum(((y != 0.0) & mine).to(tl.int32), axis=1), axis=0), sem="relaxed")
    if BYTES:
        # Heads are whole groups then.
        each: tl.constexpr = D // 64
        group = tl.arange(0, LEFT * each)
        place = tl.where(group < FOLD * each, head * FOLD * each + group, heads * each)
        write_bytes(tl.reshape(y, (LEFT * D,)), out, out_scale, row, place, heads * each, LEFT * each)
    else:
        tl.store(out + lines[:, None] * D + at[None, :], y.to(tl.bfloat16), mask=mine)


@triton.jit
def _prefill(
    q, pages, page_scales, tile_first, tile_count, tile_position, tile_run, tables, out, tau, kept,
    heads, key_heads, table_width, window,
    BLOCK: tl.constexpr, NARROW: tl.constexpr, FOLD: tl.constexpr, QUERIES: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    let_next_begin(EARLY)
    wait_for_last(EARLY)
    piece, head = tl.program_id(0), tl.program_id(1)
    count = tl.load(tile_count + piece)
    if count == 0:
        return
    first_row = tl.load(tile_first + piece).to(tl.int64)
    position = tl.load(tile_position + piece)
    table = tables + tl.load(tile_run + piece).to(tl.int64) * table_width
    line = tl.arange(0, ROWS)
    query, member = line // FOLD, line % FOLD
    at = tl.arange(0, BLOCK_D)
    mine = (query < count)[:, None] & (at < D)[None, :]
    where = (first_row + query) * heads + head * FOLD + member
    queries = tl.load(q + where[:, None] * D + at[None, :], mask=mine, other=0.0)
    mine_at = position + query
    end = position + count
    begin = 0
    if window > 0:
        begin = tl.maximum(position + 1 - window, 0)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for tile in range(begin // TILE * TILE, end, TILE):
        keys, key_scales = _tile_of_pages(
            pages, page_scales, table, tile, end, 0, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
        values, value_scales = _tile_of_pages(
            pages, page_scales, table, tile, end, 1, head, key_heads, BLOCK, NARROW, TILE, D, BLOCK_D
        )
        token = tile + tl.arange(0, TILE)
        seen = token[None, :] <= mine_at[:, None]
        if window > 0:
            seen = seen & (token[None, :] > mine_at[:, None] - window)
        largest, total, mixed = _with_tile(
            queries, keys, key_scales, values, value_scales, seen, largest, total, mixed, NARROW
        )
    y = (mixed / tl.maximum(total, 1e-30)[:, None]).to(tl.bfloat16).to(tl.float32)
    y = tl.where(tl.abs(y) > tl.load(tau), y, 0.0)
    tl.atomic_add(kept, tl.sum(tl.sum(((y != 0.0) & mine).to(tl.int32), axis=1), axis=0), sem="relaxed")
    tl.store(out + where[:, None] * D + at[None, :], y.to(tl.bfloat16), mask=mine)


class DecodeScratch:
    """What the splits of one step leave for the last of them. Shared by all layers, whose launches follow one another."""

    def __init__(self, rows: int, heads: int, key_heads: int, dim: int, splits: int, device: torch.device) -> None:
        self.splits = splits
        self.partial = torch.empty(rows * heads * splits * dim, device=device)
        self.largest = torch.empty(rows * heads * splits, device=device)
        self.total = torch.empty(rows * heads * splits, device=device)
        self.arrived = torch.zeros(rows * key_heads, device=device, dtype=torch.int32)


def splits_for(rows: int, key_heads: int, multiprocessors: int) -> int:
    """Enough programs to keep all multiprocessors loading: a power of two up to 16."""
    wanted = 4 * multiprocessors / (rows * key_heads)
    splits = 1
    while splits < min(wanted, 16):
        splits *= 2
    return splits


def decode_attention(
    q: Tensor,
    pages: Tensor,
    page_scales: Tensor | None,
    positions: Tensor,
    runs: Tensor,
    tables: Tensor,
    scratch: DecodeScratch,
    tau: Tensor,
    kept: Tensor,
    real: Tensor,
    window: int = 0,
    *,
    turning: Turning | None = None,
    in_bytes: bool = False,
    tuning: AttentionTuning | None = None,
) -> Tensor | InBytes:
    """One token a row, at positions [M], that sees itself and all before. Returns [M, H D] bf16, pruned as in `norm.add_norm`,
    or in bytes, which takes heads for which `goes_in_bytes` holds.

    q: [M, H, D], scaled; or, with `turning`, a qkv product as it says, [M, N] bf16 or [parts, M, N] fp32,
    whose keys and values are then written, too. pages and page_scales as in `rope.rope_write`; runs: [M] int32, the line of
    `tables` [R, blocks] int32 that a row's blocks stand in. window: tokens back that a row sees, itself included; 0 for all.
    """
    rows, dim = positions.shape[0], pages.shape[-1]
    key_heads, block_size = pages.shape[2], pages.shape[3]
    heads = q.shape[1] if turning is None else q.shape[-1] // dim - 2 * key_heads
    parts = parts_of(q) if turning is not None else 1
    fold = heads // key_heads
    made = InBytes.empty(rows, heads * dim, q.device) if in_bytes else None
    if made is not None:
        out, out_scale = made.codes, made.scales
    else:
        out = out_scale = torch.empty(rows, heads * dim, device=q.device, dtype=torch.bfloat16)
    block_d = max(16, triton.next_power_of_2(dim))
    # The matrix units take no fewer rows than 16. Where splits are added up none are padded.
    most = max(16, triton.next_power_of_2(fold))
    left = triton.next_power_of_2(fold) if scratch.splits > 1 else most
    how = tuning or tuned.here().tiles(narrow=page_scales is not None, rows=rows)
    how_turned = turning or Turning(q, 1.0, 0.0)
    row_scale, column_scale = how_turned.scales or (q, q)
    q_gain, k_gain = how_turned.head_gains or (q, q)
    _decode[(rows, key_heads, scratch.splits)](
        q, rows * q.shape[-1], row_scale, column_scale, q if how_turned.bias is None else how_turned.bias,
        q_gain, k_gain, how_turned.turns, pages, q if page_scales is None else page_scales, positions, runs, tables, out,
        out_scale, scratch.partial, scratch.largest, scratch.total, scratch.arrived, tau, kept, real, heads,
        key_heads, tables.shape[1], window, how_turned.eps, how_turned.scale,
        TURN=turning is not None, PARTS=parts, SCALED=how_turned.scales is not None,
        BIASED=how_turned.bias is not None, NORMED=how_turned.head_gains is not None,
        BLOCK=block_size, NARROW=page_scales is not None, FOLD=fold,
        ROWS=most, LEFT=left, SPLITS=scratch.splits,
        PIECES=min(scratch.splits, max(1, _PIECES // (left * block_d))),
        TILE=how.tile if block_d <= 128 else 32, D=dim, BLOCK_D=block_d,
        BYTES=in_bytes, num_warps=how.warps, num_stages=how.stages, **overlap.options(q, rows),
    )  # fmt: skip
    return out if made is None else made


def goes_in_bytes(heads: int, dim: int) -> bool:
    """Whether each head's outputs are whole groups, and all of them whole pairs."""
    return dim in (64, 128, 256) and heads * dim % PAIR == 0


def queries_per_tile(fold: int, dim: int) -> int:
    """Tokens of a prompt that one program of `prefill_attention` takes."""
    return max(1, (128 if dim <= 128 else 64) // triton.next_power_of_2(fold))


def prefill_attention(
    q: Tensor,
    pages: Tensor,
    page_scales: Tensor | None,
    tiles: Tensor,
    tables: Tensor,
    tau: Tensor,
    kept: Tensor,
    window: int = 0,
) -> Tensor:
    """Tokens of prompts, each seeing itself and all before it. Returns [M, H D] bf16; rows in no tile are not written.

    tiles: [4, T] int32: first row, number of rows (0: nothing to do), position of the first row, line of `tables`; at most
    `queries_per_tile` rows each, of one run. The rest as in `decode_attention`.
    """
    rows, heads, dim = q.shape
    key_heads, block_size = pages.shape[2], pages.shape[3]
    fold = heads // key_heads
    queries = queries_per_tile(fold, dim)
    out = torch.zeros(rows, heads * dim, device=q.device, dtype=torch.bfloat16)
    block_d = max(16, triton.next_power_of_2(dim))
    # A line a pair of query and head; fold need not be a power of two.
    lines = max(16, triton.next_power_of_2(queries * fold))
    _prefill[(tiles.shape[1], key_heads)](
        q, pages, q if page_scales is None else page_scales, tiles[0], tiles[1], tiles[2], tiles[3], tables, out, tau, kept,
        heads, key_heads, tables.shape[1], window,
        BLOCK=block_size, NARROW=page_scales is not None, FOLD=fold,
        QUERIES=queries, ROWS=lines, TILE=64 if block_d <= 128 else 32,
        D=dim, BLOCK_D=block_d, num_warps=8 if lines * block_d >= 8192 else 4, num_stages=2, **overlap.options(q),
    )  # fmt: skip
    return out
