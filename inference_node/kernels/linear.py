"""A weight matrix laid out for this machine, and its product with the rows of a step."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from inference_node.kernels.rows import ANY_SIZE, RowSizes


class Linear(Protocol):
    """y = x W^T + b. x: [M, K] of a float dtype; returns [M, N] in the dtype of the precision's activations."""

    in_features: int
    out_features: int
    rows: RowSizes

    @property
    def nbytes(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...


def in_pieces(linear: "PackedLinear", x: Tensor) -> Tensor:
    """The product in sizes that keep rows independent of one another; x has a size that the row plan allows."""
    pieces = linear.rows.pieces(x.shape[0])
    assert pieces is not None, f"{x.shape[0]} rows were not padded"
    if len(pieces) <= 1:
        return linear.product(x)
    return torch.cat([linear.product(part) for part in x.split_with_sizes(list(pieces))])


class PackedLinear:
    """fp32 or bf16 weights, packed once by oneDNN where torch has it (1.5 to 1.7 times F.linear at few rows, cpu-baselines).

    weight: [N, K] in the dtype to compute in; bias: [N] or None. x must have that dtype too. Accumulates in fp32.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_features, self.in_features = weight.shape
        self.rows = ANY_SIZE
        self._bias = bias
        self._nbytes = weight.nbytes + (0 if bias is None else bias.nbytes)
        self._packed = _can_pack(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._packed else weight

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def product(self, x: Tensor) -> Tensor:
        """All rows at once, whatever that does to the order of summation."""
        if self._packed:
            result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return result
        return functional.linear(x, self._weight, self._bias)

    def __call__(self, x: Tensor) -> Tensor:
        return in_pieces(self, x)


def _can_pack(weight: Tensor) -> bool:
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
