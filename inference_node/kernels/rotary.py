"""Rotary position embedding as one complex product, for heads whose channel pairs lie side by side."""

import torch
from torch import Tensor


def interleave_pairs(weight: Tensor, num_heads: int) -> Tensor:
    """Reorders the rows of a projection so that a rotary pair (i, i + D/2) becomes (2i, 2i + 1). weight: [H*D, ...].

    Queries and keys are reordered alike, so their products, and thus attention, stay what they were.
    """
    heads = weight.view(num_heads, 2, -1, *weight.shape[1:])
    return heads.transpose(1, 2).reshape(weight.shape)


class RotaryTable:
    """Rotations for positions 0 .. max_positions - 1. speeds: [D/2] radians a token; pairs of speed 0 stay what they are.

    gain: what each turning pair is multiplied with besides.
    """

    def __init__(self, speeds: Tensor, max_positions: int, gain: float = 1.0) -> None:
        angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), speeds)
        self._turns = torch.polar(torch.where(speeds > 0, gain, 1.0).expand_as(angles), angles)

    def at(self, positions: Tensor) -> Tensor:
        """positions: [M] int64. Returns [M, 1, D/2] complex64."""
        return self._turns.index_select(0, positions).unsqueeze(1)


def rotate_pairs(x: Tensor, turns: Tensor) -> Tensor:
    """x: [M, H, D] with interleaved pairs, any float dtype; turns: [M, 1, D/2]. Returns [M, H, D] fp32."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)
