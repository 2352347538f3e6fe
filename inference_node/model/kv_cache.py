"""The tensors behind the block numbers: keys and values of all layers in one pool."""

import math
import mmap
from enum import StrEnum

import torch
from torch import Tensor

# Of eight bits: the widest whole number, and the entry below which a row counts as zero (csrc/kv_cache.h).
_WIDEST, _LEAST = 127.0, 1e-20
# Bytes of the scale that goes with the entries of one token and head.
SCALE_BYTES = 2


class KvLayout(StrEnum):
    """How a block lies in memory: token by token, or in the tiles that the native kernels read (csrc/kv_cache.h)."""

    ROWS = "rows"
    TILES = "tiles"


class KvCache:
    """`pages`: [layers, num_blocks + 1, block_size, 2, key heads, head dim]; index 3 is key, value.

    In tiles a block has as many entries, in the order that `_to_tiles` makes. In int8, which only tiles have, it has two more for
    each token and head, the bytes of a bf16 scale, in the order of `_narrowed`. An entry times its scale is what was written.

    The block after the last is scratch: padding rows write there. Pages that nobody wrote cost no memory (the pool starts as
    zero pages of the system), and are zero, since attention multiplies what it masks by 0 and a stray NaN would survive that.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        layout: KvLayout = KvLayout.ROWS,
    ) -> None:
        self.layout = layout
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._head_dim = head_dim
        self._shape = (num_layers, num_blocks + 1, block_size, 2, num_heads)
        self.pages = self._empty(dtype, layout)

    @property
    def dtype(self) -> torch.dtype:
        return self.pages.dtype

    @property
    def num_heads(self) -> int:
        return self._shape[-1]

    @property
    def head_dim(self) -> int:
        return self._head_dim

    @property
    def scratch_slot(self) -> int:
        return self.num_blocks * self.block_size

    def write(self, layer: int, slots: Tensor, keys_values: Tensor) -> None:
        """slots: [M] int64, block * block_size + offset; keys_values: [M, 2, heads, dim] in the cache's dtype."""
        self.pages[layer].flatten(0, 1).index_copy_(0, slots, keys_values)

    def convert(self, dtype: torch.dtype, layout: KvLayout, blocks: list[int]) -> None:
        """Keeps the content of `blocks` in another form and lets go of the rest. Narrowing rounds; widening is exact, but from
        int8 to bf16, which does not hold every multiple of a scale."""
        if (dtype, layout) == (self.dtype, self.layout):
            return
        before = self.layout
        old = self.renew(dtype, layout)
        if not blocks:
            return
        kept = torch.tensor(blocks)
        for layer in range(old.shape[0]):
            content = old[layer].index_select(0, kept)
            if content.dtype == torch.int8:
                content = _opened(content)
            elif dtype != torch.int8:
                content = content.to(dtype)
            if dtype == torch.int8:
                content = _narrowed(content if before is KvLayout.ROWS else _to_rows(content))
            elif before is not layout:
                content = _to_tiles(content) if layout is KvLayout.TILES else _to_rows(content)
            self.pages[layer].index_copy_(0, kept, content.to(dtype))

    def renew(self, dtype: torch.dtype, layout: KvLayout) -> Tensor:
        """Begins an empty cache of that form, and returns the pages of the old one."""
        old, self.pages = self.pages, self._empty(dtype, layout)
        self.layout = layout
        return old

    def _empty(self, dtype: torch.dtype, layout: KvLayout) -> Tensor:
        assert dtype != torch.int8 or layout is KvLayout.TILES, "only the native kernels read eight bits"
        return _zero_pages((*self._shape, self._head_dim + (SCALE_BYTES if dtype == torch.int8 else 0)), dtype)


def _zero_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory as they are first written; torch.zeros writes all of them (1.5 GB for the demo model)."""
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def _to_tiles(blocks: Tensor) -> Tensor:
    """[B, S, 2, H, D] to keys [B, H, S / 16, D / 2, 16, 2] and, behind them, values [B, H, S / 2, D, 2], in the shape given."""
    b, s, _, h, d = blocks.shape
    keys = blocks[:, :, 0].view(b, s // 16, 16, h, d // 2, 2).permute(0, 3, 1, 4, 2, 5)
    values = blocks[:, :, 1].view(b, s // 2, 2, h, d).permute(0, 3, 1, 4, 2)
    return torch.cat((keys.reshape(b, -1), values.reshape(b, -1)), dim=1).view(blocks.shape)


def _to_rows(blocks: Tensor) -> Tensor:
    """The other way."""
    b, s, _, h, d = blocks.shape
    keys, values = blocks.view(b, 2, -1).unbind(1)
    rows = torch.empty_like(blocks)
    rows[:, :, 0] = keys.view(b, h, s // 16, d // 2, 16, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, s, h, d)
    rows[:, :, 1] = values.view(b, h, s // 2, d, 2).permute(0, 2, 4, 1, 3).reshape(b, s, h, d)
    return rows


def _narrowed(rows: Tensor) -> Tensor:
    """[B, S, 2, H, D] of any dtype to int8: for each head its keys and values in tiles and their scales, [B, H, 2SD + 4S], in the
    shape [B, S, 2, H, D + 2]. As csrc/kv_cache.h rounds: a scale is the largest entry over 127, rounded up, and no number where
    an entry is none."""
    b, s, _, h, d = rows.shape
    rows = rows.float()
    largest = rows.abs().amax(-1)
    bits = (largest / _WIDEST).masked_fill_(largest < _LEAST, 0.0).view(torch.int32)
    scales = (bits + 0xFFFF).bitwise_and_(-0x10000).view(torch.float32)
    whole = (rows * torch.where(scales > 0, scales.reciprocal(), 0.0).unsqueeze(-1)).round_().nan_to_num_(0.0)
    entries = _to_tiles(whole.clamp_(-_WIDEST, _WIDEST).to(torch.int8)).view(b, 2, h, s * d).transpose(1, 2)
    behind = scales.permute(0, 3, 2, 1).to(torch.bfloat16).contiguous().view(torch.int8)
    heads = torch.cat((entries.reshape(b, h, -1), behind.view(b, h, -1)), dim=2)
    return heads.view(b, s, 2, h, d + SCALE_BYTES)


def _opened(blocks: Tensor) -> Tensor:
    """The other way, as far as tiles: [B, S, 2, H, D] fp32."""
    b, s, _, h, d = blocks.shape
    d -= SCALE_BYTES
    entries, behind = blocks.reshape(b, h, -1).split_with_sizes([2 * s * d, 2 * s * SCALE_BYTES], dim=2)
    keys, values = entries.float().reshape(b, h, 2, s * d).unbind(2)
    scales = behind.contiguous().view(torch.bfloat16).float().view(b, h, 2, s)
    keys = keys.view(b, h, s // 16, d // 2, 16, 2) * scales[:, :, 0].reshape(b, h, s // 16, 1, 16, 1)
    values = values.view(b, h, s // 2, d, 2) * scales[:, :, 1].reshape(b, h, s // 2, 1, 2)
    return torch.cat((keys.reshape(b, -1), values.reshape(b, -1)), dim=1).view(b, s, 2, h, d)
