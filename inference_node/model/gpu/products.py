"""Rows times a matrix of any format: whose kernel runs it, and what its result still lacks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.kernels.gpu.dense import MOST_ROWS as MOST_DENSE
from inference_node.kernels.gpu.dense import dense
from inference_node.kernels.gpu.gemv import gemv_narrow
from inference_node.kernels.gpu.in_bytes import InBytes
from inference_node.kernels.gpu.listed import MOST_INPUTS, listed
from inference_node.kernels.gpu.norm import quantize_rows
from inference_node.kernels.gpu.planes import Planes
from inference_node.kernels.gpu.planes_gemm import GemmScratch, planes_gemm
from inference_node.kernels.gpu.planes_row import MOST_ROWS, planes_row
from inference_node.kernels.gpu.planes_widen import planes_widened
from inference_node.kernels.gpu.tuned import multiprocessors
from inference_node.model.gpu.store import GpuMatrix, Narrow

# torch._scaled_mm takes no fewer rows; those beyond a step's own hold whatever was there, and touch no other row.
FP8_ROWS = 16
# Above, writing a matrix in bf16 and multiplying by cuBLAS is faster than turning tiles of it again for each tile of rows.
_GEMM_ROWS = 64
# Weights up to which a row with inputs skipped lists those that count.
_SMALL = 40_000_000


@dataclass(frozen=True, slots=True)
class Product:
    """rows: [M, N] bf16, or [parts, M, N] fp32 that have to be added up; scales: ([M], [N]) fp32 that they have to be multiplied
    with; bias: [N] fp32 to be added then."""

    rows: Tensor
    scales: tuple[Tensor, Tensor] | None
    bias: Tensor | None


class Products:
    """Buffers for the products of one stream of steps."""

    def __init__(self, device: torch.device, widest: int) -> None:
        self._many = GemmScratch(device, widest, multiprocessors())
        self._one = torch.ones((), device=device)

    def __call__(
        self,
        x: Tensor | InBytes,
        x_scale: Tensor | None,
        matrix: GpuMatrix,
        bits: int,
        *,
        skips: bool,
        at_once: bool = False,
    ) -> Product:
        """x: [M, K] bf16, or e4m3 with x_scale [M], or bytes where `takes_bytes`. A single row may be bf16 with any matrix.

        skips: whether zeros among a single row's inputs spare reading; it takes a few per cent longer where there are none.
        at_once: whether the next launch is attention and may begin beside this one, of few rows.
        """
        if isinstance(x, InBytes):
            assert isinstance(matrix.weight, Planes)
            return Product(planes_row(x, matrix.weight, bits=bits, at_once=at_once), None, matrix.bias)
        match matrix.weight:
            case Planes() as planes:
                return Product(self._planes(x, planes, bits, torch.bfloat16), None, matrix.bias)
            case Narrow() as narrow:
                if x_scale is None:
                    return Product(gemv_narrow(x, narrow.weight, narrow.scale, at_once=at_once), None, matrix.bias)
                y = self._narrow(x, narrow, torch.bfloat16)
                return Product(y[: x_scale.shape[0]], (x_scale, narrow.scale), matrix.bias)
            case weight:
                if x.shape[0] <= MOST_DENSE and weight.is_contiguous():
                    skips = skips and x.shape[0] == 1
                    if skips and weight.numel() <= _SMALL and weight.shape[0] <= MOST_INPUTS:
                        return Product(listed(x, weight, at_once=at_once), None, matrix.bias)
                    return Product(dense(x, weight, skips=skips, at_once=at_once), None, matrix.bias)
                return Product(torch.mm(x, weight), None, matrix.bias)

    @staticmethod
    def takes_bytes(rows: int, matrix: GpuMatrix) -> bool:
        """Whether such rows are best handed over in bytes."""
        return rows <= MOST_ROWS and isinstance(matrix.weight, Planes)

    def logits(self, x: Tensor | InBytes, matrix: GpuMatrix) -> Tensor:
        """x: [R, C] bf16 or in bytes. Returns [R, V] fp32: in bf16, likely tokens would tie."""
        if isinstance(x, InBytes):
            assert isinstance(matrix.weight, Planes)
            return planes_row(x, matrix.weight, bits=8, dtype=torch.float32)
        match matrix.weight:
            case Planes() as planes:
                return self._planes(x, planes, 8, torch.float32)
            case Narrow() as narrow:
                if x.shape[0] == 1:
                    return gemv_narrow(x, narrow.weight, narrow.scale, dtype=torch.float32)
                rows, scale = quantize_rows(_padded(x))
                return (self._narrow(rows, narrow, torch.float32) * narrow.scale * scale.unsqueeze(1))[: x.shape[0]]
            case weight:
                if not x.is_cuda:
                    return torch.mm(x.float(), weight.float())
                return torch.mm(x, weight, out_dtype=torch.float32)

    def _planes(self, x: Tensor, planes: Planes, bits: int, dtype: torch.dtype) -> Tensor:
        if x.shape[0] <= MOST_ROWS:
            return planes_row(x, planes, bits=bits, dtype=dtype)
        if x.shape[0] > _GEMM_ROWS and dtype is torch.bfloat16:
            return torch.mm(x, planes_widened(planes, bits).t())
        return planes_gemm(x, planes, self._many, bits=bits, dtype=dtype)

    def _narrow(self, x: Tensor, narrow: Narrow, dtype: torch.dtype) -> Tensor:
        y: Tensor = torch._scaled_mm(
            x, narrow.weight.t(), scale_a=self._one, scale_b=self._one, out_dtype=dtype, use_fast_accum=True
        )
        return y


def _padded(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, max(0, FP8_ROWS - x.shape[0])))
