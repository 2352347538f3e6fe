"""Keys and values of all layers in the memory of the GPU."""

import torch
from torch import Tensor

from inference_node.kernels.gpu.fp8 import FP8_MAX
from inference_node.model.gpu.device import here
from inference_node.model.kv_cache import KvLayout
from inference_node.model.spec import ModelSpec


class GpuKvCache:
    """For each layer pages [num_blocks + 1, 2, key heads, block size, head dim], and in e4m3 a scale for each token and head.

    The block after the last is scratch: padding rows write there. All is zero at first: a masked NaN would survive attention.
    """

    layout = KvLayout.ROWS

    def __init__(self, spec: ModelSpec, dtype: torch.dtype, *, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size, self.dtype = num_blocks, block_size, dtype
        shape = (num_blocks + 1, 2, spec.num_key_heads, block_size, spec.head_dim)
        self.pages = [_zeros(shape, dtype) for _ in range(spec.num_layers)]
        self.scales = [_scales(page) for page in self.pages]

    @property
    def scratch_block(self) -> int:
        return self.num_blocks

    def convert(self, dtype: torch.dtype, blocks: list[int]) -> None:
        """Keeps the content of `blocks` in another format, layer by layer, and lets go of the rest. Narrowing rounds."""
        if dtype == self.dtype:
            return
        kept = torch.tensor(blocks, device=self.pages[0].device, dtype=torch.int64)
        for layer, page in enumerate(self.pages):
            content = page.view(torch.uint8)[kept].view(page.dtype).float()
            old = self.scales[layer]
            if old is not None and blocks:
                content *= old[kept].unsqueeze(-1)
            shape = tuple(page.shape)
            # The old page goes first, so that memory never holds a layer twice.
            self.pages[layer] = page = page.new_empty(0)
            self.scales[layer] = None
            page = _zeros(shape, dtype)
            self.pages[layer], self.scales[layer] = page, _scales(page)
            if not blocks:
                continue
            size = self.scales[layer]
            if size is not None:
                amount = content.abs().amax(-1).clamp_min(1e-12) / FP8_MAX
                size[kept] = amount
                content /= amount.unsqueeze(-1)
            page.view(torch.uint8)[kept] = content.to(dtype).view(torch.uint8)
        self.dtype = dtype


def bytes_per_token(spec: ModelSpec, dtype: torch.dtype) -> int:
    entries = 2 * spec.num_layers * spec.num_key_heads
    return entries * (spec.head_dim * dtype.itemsize + (4 if dtype.itemsize == 1 else 0))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.zeros((*shape[:-1], shape[-1] * dtype.itemsize), device=here(), dtype=torch.uint8).view(dtype)


def _scales(page: Tensor) -> Tensor | None:
    return torch.zeros(page.shape[:-1], device=page.device) if page.dtype.itemsize == 1 else None
