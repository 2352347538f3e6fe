"""int8 weights with one scale per output channel, times activations rounded to int8 with one scale per row.

Symmetric and without calibration: W8A8 "per-token, per-channel" as in Xiao et al., "SmoothQuant" (2023), section 3, without its
smoothing. Sums are whole numbers in int32, so a row's result is the same in whatever batch it runs.
"""

import torch
from torch import Tensor

from inference_node.kernels.rows import ANY_SIZE

LEVELS = 127
# Keeps an all-zero row or channel from dividing by zero; far below any scale that occurs.
_TINY = 1e-12


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds each row to whole numbers in [-127, 127]. x: [N, K] float; returns ([N, K] int8, scales [N, 1] fp32).

    Row n of x is about values[n] * scales[n], off by at most half a scale per entry.
    """
    wide = x.float()
    scales = wide.abs().amax(dim=1, keepdim=True).clamp_min_(_TINY).mul_(1 / LEVELS)
    return torch.div(wide, scales).round_().to(torch.int8), scales


def dequantize_rows(values: Tensor, scales: Tensor) -> Tensor:
    """The fp32 matrix that `values` and `scales` of `quantize_rows` stand for."""
    return values.float() * scales


def is_supported() -> bool:
    """Whether this torch has oneDNN's int8 product."""
    return "onednn" in torch.backends.quantized.supported_engines and hasattr(torch.ops.onednn, "qlinear_pointwise")


class Int8Linear:
    """y = x W^T + b by oneDNN's int8 product (VNNI or AMX). x: [M, K] of any float dtype; returns [M, N] fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight.shape
        self.rows = ANY_SIZE
        values, scales = quantize_rows(weight)
        self._scales = scales.view(-1).contiguous()
        self._zeros = torch.zeros_like(self._scales, dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(values, None)
        # Added after the row's scale: inside the product it would have to be divided by it.
        self._bias = None if bias is None else bias.float()
        self._nbytes = values.nbytes + self._scales.nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def __call__(self, x: Tensor) -> Tensor:
        values, scales = quantize_rows(x)
        whole: Tensor = torch.ops.onednn.qlinear_pointwise(
            values, 1.0, 0, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = whole.mul_(scales)
        return y if self._bias is None else y.add_(self._bias)
