"""Keys and values of all layers in the memory of the GPU."""

from typing import Self

import torch
from torch import Tensor

from inference_node.contract.settings import KvPrecision
from inference_node.kernels.gpu.fp8 import FP8_MAX
from inference_node.model.gpu.device import here
from inference_node.model.kv_cache import KvLayout
from inference_node.model.spec import ModelSpec

# Converted in fp32, which takes some 270 MB of an 8B model at 32 tokens a block.
_BLOCKS_AT_ONCE = 512


class GpuKvCache:
    """For each layer pages [num_blocks + 1, 2, key heads, block size, head dim], and in e4m3 a scale for each token and head.

    The block after the last is scratch: padding rows write there. All is zero at first: a masked NaN would survive attention.
    """

    layout = KvLayout.ROWS

    def __init__(
        self, spec: ModelSpec, dtype: torch.dtype, *, num_blocks: int, block_size: int, layers: int | None = None
    ) -> None:
        """layers: the first of them, or all. Raises torch.OutOfMemoryError."""
        self._spec, self._layers = spec, spec.num_layers if layers is None else layers
        self.num_blocks, self.block_size, self.dtype = num_blocks, block_size, dtype
        shape = (num_blocks + 1, 2, spec.num_key_heads, block_size, spec.head_dim)
        self.pages = [_zeros(shape, dtype) for _ in range(self._layers)]
        self.scales = [_scales(page) for page in self.pages]

    @property
    def scratch_block(self) -> int:
        return self.num_blocks

    def like(self, dtype: torch.dtype, *, layers: int | None = None) -> Self:
        """An empty one of as many blocks."""
        return type(self)(self._spec, dtype, num_blocks=self.num_blocks, block_size=self.block_size, layers=layers)

    def nbytes_as(self, dtype: torch.dtype) -> int:
        """What it would take with such entries."""
        tokens = (self.num_blocks + 1) * self.block_size
        return tokens * self._spec.kv_bytes_per_token(dtype) * self._layers // self._spec.num_layers

    def take(self, other: "GpuKvCache", blocks: list[int]) -> None:
        """The content of `blocks` of a cache with other entries. Narrowing rounds; widening is exact, but for the scales."""
        everything = torch.tensor(blocks, device=self.pages[0].device, dtype=torch.int64)
        for layer, page in enumerate(self.pages):
            for kept in everything.split(_BLOCKS_AT_ONCE) if blocks else ():
                content = other.pages[layer].view(torch.uint8)[kept].view(other.dtype).float()
                if (before := other.scales[layer]) is not None:
                    content *= before[kept].unsqueeze(-1)
                if (scales := self.scales[layer]) is not None:
                    amount = content.abs().amax(-1).clamp_min(1e-12) / FP8_MAX
                    scales[kept] = amount
                    content /= amount.unsqueeze(-1)
                page.view(torch.uint8)[kept] = content.to(self.dtype).view(torch.uint8)


def entries_of(kv: KvPrecision) -> torch.dtype:
    return torch.float8_e4m3fn if kv is KvPrecision.FP8 else torch.bfloat16


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.zeros((*shape[:-1], shape[-1] * dtype.itemsize), device=here(), dtype=torch.uint8).view(dtype)


def _scales(page: Tensor) -> Tensor | None:
    return torch.zeros(page.shape[:-1], device=page.device) if page.dtype.itemsize == 1 else None
