"""The tensors behind the block numbers: keys and values of all layers in one pool."""

import math
import mmap
from enum import StrEnum

import torch
from torch import Tensor


class KvLayout(StrEnum):
    """How a block lies in memory: token by token, or in the tiles that the native kernels read (csrc/attention.h)."""

    ROWS = "rows"
    TILES = "tiles"


class KvCache:
    """`pages`: [layers, num_blocks + 1, block_size, 2, key heads, head dim]; index 3 is key, value.

    In tiles a block has as many entries, in the order that `_to_tiles` makes.

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
        self.pages = _zero_pages((num_layers, num_blocks + 1, block_size, 2, num_heads, head_dim), dtype)

    @property
    def dtype(self) -> torch.dtype:
        return self.pages.dtype

    @property
    def scratch_slot(self) -> int:
        return self.num_blocks * self.block_size

    def write(self, layer: int, slots: Tensor, keys_values: Tensor) -> None:
        """slots: [M] int64, block * block_size + offset; keys_values: [M, 2, heads, dim] in the cache's dtype."""
        self.pages[layer].flatten(0, 1).index_copy_(0, slots, keys_values)

    def convert(self, dtype: torch.dtype, layout: KvLayout, blocks: list[int]) -> None:
        """Keeps the content of `blocks` in another form and lets go of the rest. Narrowing rounds, widening is exact."""
        if (dtype, layout) == (self.dtype, self.layout):
            return
        old, before = self.pages, self.layout
        self.pages = _zero_pages(tuple(old.shape), dtype)
        self.layout = layout
        if not blocks:
            return
        kept = torch.tensor(blocks)
        for layer in range(old.shape[0]):
            content = old[layer].index_select(0, kept).to(dtype)
            if before is not layout:
                content = _to_tiles(content) if layout is KvLayout.TILES else _to_rows(content)
            self.pages[layer].index_copy_(0, kept, content)


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
