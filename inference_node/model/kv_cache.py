"""The tensors behind the block numbers: keys and values of all layers in one pool."""

import torch
from torch import Tensor


class KvCache:
    """`pages`: [layers, num_blocks + 1, block_size, 2, key heads, head dim]; index 3 is key, value.

    The block after the last is scratch: padding rows write there. Pages that nobody wrote cost no memory (the pool starts as
    zero pages of the system), and are zero, since attention multiplies what it masks by 0 and a stray NaN would survive that.
    """

    def __init__(
        self, *, num_layers: int, num_blocks: int, block_size: int, num_heads: int, head_dim: int, dtype: torch.dtype
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.pages = torch.zeros(num_layers, num_blocks + 1, block_size, 2, num_heads, head_dim, dtype=dtype)

    @property
    def dtype(self) -> torch.dtype:
        return self.pages.dtype

    @property
    def scratch_slot(self) -> int:
        return self.num_blocks * self.block_size

    def write(self, layer: int, slots: Tensor, keys_values: Tensor) -> None:
        """slots: [M] int64, block * block_size + offset; keys_values: [M, 2, heads, dim] in the cache's dtype."""
        self.pages[layer].flatten(0, 1).index_copy_(0, slots, keys_values)

    def convert(self, dtype: torch.dtype, blocks: list[int]) -> None:
        """Keeps the content of `blocks` in another dtype and lets go of the rest. Narrowing rounds, widening is exact."""
        if dtype == self.dtype:
            return
        old = self.pages
        self.pages = torch.zeros(old.shape, dtype=dtype)
        if blocks:
            kept = torch.tensor(blocks)
            for layer in range(old.shape[0]):
                self.pages[layer].index_copy_(0, kept, old[layer].index_select(0, kept).to(dtype))
