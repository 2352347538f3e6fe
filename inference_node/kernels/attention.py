"""Attention of a step's tokens over paged keys and values, in groups that one call of torch's fused CPU kernel can take.

Letters: S sequences of a group, T tokens of each, G query heads per key head, R = T * G rows, N key places, D head dim.
The G heads that share a key head are folded into the rows (0.25 ms against 0.39 ms for torch's own grouped form at S=32,
N=192, cpu-baselines).

What keeps a token's result the same whatever runs beside it (measured, docs/adr/0002): N is a multiple of 32, so that a key
keeps its SIMD lane in the sum of weights and AMX has no ragged end; no product has 1 or 2 rows; and in fp32 a key block's
width does not cross 384, where MKL starts to split the sum over keys.
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
_MKL_SPLIT = 384
_LANES = 32
# Decode rows whose key counts differ by more than this share are not padded to one another.
_WASTE = 1.5


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """S sequences with T tokens each, padded to the same N keys.

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
    if dtype == torch.float32 and (padded - 1) % _KEY_BLOCK >= _MKL_SPLIT:
        padded = -(-padded // _KEY_BLOCK) * _KEY_BLOCK
    return padded


def plan_groups(
    runs: Sequence[Run], *, dtype: torch.dtype, block_size: int, heads_per_key: int
) -> tuple[AttentionGroup, ...]:
    """Groups for one step's runs, decode rows by similar length, prompts in tiles. Made once a step, used by every layer."""
    groups = [
        _decode_group(group, dtype, block_size)
        for group in _by_length([r for r in runs if r.count == 1], dtype, block_size)
    ]
    for run in runs:
        if run.count > 1:
            groups += [_tile_group(tile, dtype, block_size, heads_per_key) for tile in _tiles(run, dtype, block_size)]
    return tuple(groups)


def attend(q: Tensor, kv: Tensor, groups: Sequence[AttentionGroup]) -> Tensor:
    """q: [M, Hq, D]; kv: one layer's pool [blocks, block_size, 2, Hkv, D], q's dtype.

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
        mixed = _fused(rows, keys, values, group.mask)
        mixed = mixed.view(s, key_heads, t, fold, dim).transpose(1, 2).reshape(s * t, query_heads * dim)
        out.index_copy_(0, group.rows, mixed)
    return out


def _fused(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    count = rows.shape[2]
    # The kernel takes rows by 32, 64 or 256; a rest of 1 or 2 would be summed in another order than the others.
    missing = 4 - count % 4 if count < 3 or (count > 32 and count % 32 in (1, 2)) else 0
    if missing:
        rows = functional.pad(rows, (0, 0, 0, missing))
        if mask.shape[2] > 1:
            mask = functional.pad(mask, (0, 0, 0, missing))
    mixed = functional.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
    return mixed[:, :, :count].contiguous()


def _by_length(runs: Sequence[Run], dtype: torch.dtype, block_size: int) -> list[list[Run]]:
    groups: list[list[Run]] = []
    shortest = tail = 0
    for run in sorted(runs, key=lambda r: r.start):
        keys = padded_keys(run.start + 1, dtype, block_size)
        if groups and keys <= max(shortest * _WASTE, 128) and _tail(keys, dtype) == tail:
            groups[-1].append(run)
        else:
            groups.append([run])
            shortest, tail = keys, _tail(keys, dtype)
    return groups


def _tail(keys: int, dtype: torch.dtype) -> int:
    """Key counts with an equal tail may be padded to one another without changing a bit."""
    if dtype != torch.float32:
        return 0
    return 2 * ((keys - 1) // _KEY_BLOCK) + ((keys - 1) % _KEY_BLOCK >= _MKL_SPLIT)


def _decode_group(runs: Sequence[Run], dtype: torch.dtype, block_size: int) -> AttentionGroup:
    keys = max(padded_keys(run.start + 1, dtype, block_size) for run in runs)
    lengths = torch.tensor([run.start + 1 for run in runs])
    mask = _mask(torch.arange(keys)[None, :] < lengths[:, None], dtype).view(len(runs), 1, 1, keys)
    return _group(runs, 1, keys, block_size, torch.tensor([run.row for run in runs]), mask)


def _tile_group(run: Run, dtype: torch.dtype, block_size: int, heads_per_key: int) -> AttentionGroup:
    keys = padded_keys(run.start + run.count, dtype, block_size)
    positions = torch.arange(run.start, run.start + run.count).repeat_interleave(heads_per_key)
    mask = _mask(torch.arange(keys)[None, :] <= positions[:, None], dtype).view(1, 1, -1, keys)
    return _group([run], run.count, keys, block_size, torch.arange(run.row, run.row + run.count), mask)


def _tiles(run: Run, dtype: torch.dtype, block_size: int) -> list[Run]:
    tiles: list[Run] = []
    position, end = run.start, run.start + run.count
    while position < end:
        stop = min(end, (position // PREFILL_TILE + 1) * PREFILL_TILE)
        assert _tail(padded_keys(position + 1, dtype, block_size), dtype) == _tail(
            padded_keys(stop, dtype, block_size), dtype
        )
        tiles.append(Run(run.row + position - run.start, position, stop - position, run.block_table))
        position = stop
    return tiles


def _group(
    runs: Sequence[Run], tokens_each: int, keys: int, block_size: int, rows: Tensor, mask: Tensor
) -> AttentionGroup:
    per_sequence = keys // block_size
    numbers: list[int] = []
    for run in runs:
        table = list(run.block_table[:per_sequence])
        # Places beyond a sequence's own blocks are masked; any block will do to fill them.
        numbers += table + [table[0]] * (per_sequence - len(table))
    first = numbers[0]
    is_run = len(runs) == 1 and numbers == list(range(first, first + per_sequence))
    return AttentionGroup(rows, len(runs), tokens_each, keys, None if is_run else torch.tensor(numbers), first, mask)


def _mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, float("-inf"))
