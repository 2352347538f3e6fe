"""Attention of a step's tokens over paged keys and values, in groups that one call of torch's fused CPU kernel can take.

Letters: S sequences of a group, T tokens of each, G query heads per key head, R = T * G rows, N key places, D head dim.
The G heads that share a key head are folded into the rows (0.25 ms against 0.39 ms for torch's own grouped form at S=32,
N=192, cpu-baselines).

What keeps a token's result the same whatever runs beside it (measured, docs/adr/0002): N is a multiple of 32, so that a key
keeps its SIMD lane in the sum of weights and AMX has no ragged end; no product has few rows; and a key block's width is
up to 128 or all of it, since in between MKL splits the sum over keys (in fp32 from 384 on Intel's processors; on AMD's from 193,
and in bf16 too). A sliding window leaves out whole key blocks only, and the
same ones for all tokens of a tile, so that nothing of this changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Tokens of a prompt that attend in one call; each call looks at no more keys than its last token may.
PREFILL_TILE = 128
# torch's kernel walks over keys in blocks of this many.
_KEY_BLOCK = 512
_SPLIT = 128
_LANES = 32
_ROW_BLOCK = 32
# MKL multiplies up to D / 24 rows in another way than more: 2 at 64 channels, 5 at 128, 10 at 256 (measured in fp32; in bf16 a
# single row may differ).
_CHANNELS_PER_ROW = 24
# On AMD's processors it multiplies rows by 4, and those that are left over in another way (measured on Zen 5).
_ROWS_AT_ONCE = 4
# Decode rows whose key counts differ by more than this share are not padded to one another.
_WASTE = 1.5


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """S sequences with T tokens each, padded to the same N keys; with a window, the first of them need not be a sequence's first.

    rows: [S*T] places in the step; blocks: [S*N/block_size] numbers in the pool, or None when they are `first_block` onwards;
    mask: [S, 1, 1 or R, N], 0 where a key is visible and -inf where not, in the keys' dtype.
    """

    rows: Tensor
    num_sequences: int
    tokens_each: int
    num_keys: int
    blocks: Tensor | None
    first_block: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """`count` tokens of one sequence from position `start`, at place `row` of the step; its KV lies in block_table."""

    row: int
    start: int
    count: int
    block_table: Sequence[int]


def padded_keys(num_keys: int, dtype: torch.dtype, block_size: int) -> int:
    """How many key places a token that sees num_keys is computed with, when alone."""
    quantum = max(_LANES, block_size)
    padded = -(-num_keys // quantum) * quantum
    if (padded - 1) % _KEY_BLOCK >= _SPLIT:
        padded = -(-padded // _KEY_BLOCK) * _KEY_BLOCK
    return padded


def plan_groups(
    runs: Sequence[Run], *, dtype: torch.dtype, block_size: int, heads_per_key: int, window: int = 0
) -> tuple[AttentionGroup, ...]:
    """Groups for one step's runs, decode rows by similar length, prompts in tiles. Made once a step, used by every layer.

    window: how many tokens back a token sees, itself included; 0 for all.
    """
    layout = _Layout(dtype, block_size, heads_per_key, window)
    groups = [_decode_group(group, layout) for group in _by_length([r for r in runs if r.count == 1], layout)]
    for run in runs:
        if run.count > 1:
            groups += [_tile_group(tile, layout) for tile in _tiles(run, layout)]
    return tuple(groups)


def attend(q: Tensor, kv: Tensor, groups: Sequence[AttentionGroup], scale: float | None = None) -> Tensor:
    """q: [M, Hq, D]; kv: one layer's pool [blocks, block_size, 2, Hkv, D], q's dtype; scale of their products, by default D^-0.5.

    Returns [M, Hq * D]; rows that are in no group are 0.
    """
    num_rows, query_heads, dim = q.shape
    key_heads = kv.shape[3]
    fold = query_heads // key_heads
    out = q.new_zeros(num_rows, query_heads * dim)
    for group in groups:
        s, t, n = group.num_sequences, group.tokens_each, group.num_keys
        if group.blocks is None:
            pages = kv[group.first_block : group.first_block + n // kv.shape[1]]
        else:
            pages = kv.index_select(0, group.blocks)
        pages = pages.view(s, n, 2, key_heads, dim)
        keys, values = (pages[:, :, i].transpose(1, 2) for i in (0, 1))
        rows = q.index_select(0, group.rows).view(s, t, key_heads, fold, dim).transpose(1, 2)
        rows = rows.reshape(s, key_heads, t * fold, dim)
        mixed = _fused(rows, keys, values, group.mask, scale)
        mixed = mixed.view(s, key_heads, t, fold, dim).transpose(1, 2).reshape(s * t, query_heads * dim)
        out.index_copy_(0, group.rows, mixed)
    return out


def _fused(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float | None) -> Tensor:
    count, dim = rows.shape[2], rows.shape[3]
    # The kernel takes rows by 32, 64 or 256; a rest that is small or no multiple of 4 would be summed in another order.
    rest, fewest = count % _ROW_BLOCK, max(3, dim // _CHANNELS_PER_ROW + 1)
    missing = -(-max(rest, fewest) // _ROWS_AT_ONCE) * _ROWS_AT_ONCE - rest if rest else 0
    if missing:
        rows = functional.pad(rows, (0, 0, 0, missing))
        if mask.shape[2] > 1:
            mask = functional.pad(mask, (0, 0, 0, missing))
    mixed = functional.scaled_dot_product_attention(rows, keys, values, attn_mask=mask, scale=scale)
    return mixed[:, :, :count].contiguous()


@dataclass(frozen=True, slots=True)
class _Layout:
    dtype: torch.dtype
    block_size: int
    heads_per_key: int
    window: int

    def first_key(self, position: int) -> int:
        """The first key that a token is computed with: a whole number of key blocks, alike for all tokens of its tile."""
        if not self.window:
            return 0
        tile = position // PREFILL_TILE * PREFILL_TILE
        quantum = max(_KEY_BLOCK, self.block_size)
        return max(0, tile - self.window + 1) // quantum * quantum

    def keys(self, first: int, last: int) -> int:
        """How many key places the tokens at first .. last, of one tile, are computed with."""
        return padded_keys(last + 1 - self.first_key(first), self.dtype, self.block_size)

    def tail(self, keys: int) -> int:
        """Key counts with an equal tail may be padded to one another without changing a bit."""
        return 2 * ((keys - 1) // _KEY_BLOCK) + ((keys - 1) % _KEY_BLOCK >= _SPLIT)

    def mask(self, keys: Tensor, positions: Tensor) -> Tensor:
        """keys: [..., N] positions of keys; positions: [..., 1] of the tokens that look at them."""
        visible = keys <= positions
        if self.window:
            visible = visible & (keys > positions - self.window)
        return torch.zeros(visible.shape, dtype=self.dtype).masked_fill_(~visible, float("-inf"))


def _by_length(runs: Sequence[Run], layout: _Layout) -> list[list[Run]]:
    groups: list[list[Run]] = []
    shortest = tail = 0
    for keys, run in sorted(((layout.keys(r.start, r.start), r) for r in runs), key=lambda pair: pair[0]):
        if groups and keys <= max(shortest * _WASTE, 128) and layout.tail(keys) == tail:
            groups[-1].append(run)
        else:
            groups.append([run])
            shortest, tail = keys, layout.tail(keys)
    return groups


def _decode_group(runs: Sequence[Run], layout: _Layout) -> AttentionGroup:
    keys = max(layout.keys(run.start, run.start) for run in runs)
    firsts = torch.tensor([layout.first_key(run.start) for run in runs])[:, None]
    positions = torch.tensor([run.start for run in runs])[:, None]
    mask = layout.mask(firsts + torch.arange(keys), positions).view(len(runs), 1, 1, keys)
    return _group(runs, 1, keys, layout, torch.tensor([run.row for run in runs]), mask)


def _tile_group(run: Run, layout: _Layout) -> AttentionGroup:
    keys = layout.keys(run.start, run.start + run.count - 1)
    positions = torch.arange(run.start, run.start + run.count).repeat_interleave(layout.heads_per_key)[:, None]
    mask = layout.mask(layout.first_key(run.start) + torch.arange(keys), positions).view(1, 1, -1, keys)
    return _group([run], run.count, keys, layout, torch.arange(run.row, run.row + run.count), mask)


def _tiles(run: Run, layout: _Layout) -> list[Run]:
    tiles: list[Run] = []
    position, end = run.start, run.start + run.count
    while position < end:
        stop = min(end, (position // PREFILL_TILE + 1) * PREFILL_TILE)
        assert layout.tail(layout.keys(position, position)) == layout.tail(layout.keys(position, stop - 1))
        tiles.append(Run(run.row + position - run.start, position, stop - position, run.block_table))
        position = stop
    return tiles


def _group(
    runs: Sequence[Run], tokens_each: int, keys: int, layout: _Layout, rows: Tensor, mask: Tensor
) -> AttentionGroup:
    per_sequence = keys // layout.block_size
    numbers: list[int] = []
    for run in runs:
        begin = layout.first_key(run.start) // layout.block_size
        table = list(run.block_table[begin : begin + per_sequence])
        # Places beyond a sequence's own blocks are masked; any block will do to fill them.
        numbers += table + [table[0]] * (per_sequence - len(table))
    first = numbers[0]
    is_run = len(runs) == 1 and numbers == list(range(first, first + per_sequence))
    return AttentionGroup(rows, len(runs), tokens_each, keys, None if is_run else torch.tensor(numbers), first, mask)
