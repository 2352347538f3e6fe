"""Rows of inputs as bytes, 64 to a scale, as `planes_row` multiplies them: written by whatever makes the rows.

Rounded as in llama.cpp's Q8_1 and in this engine's CPU kernels.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last
from inference_node.kernels.gpu.planes import GROUP, PAIR, PER_WORD

_GROUP, _PLACES = tl.constexpr(GROUP), tl.constexpr(PER_WORD)


@dataclass(frozen=True, slots=True)
class InBytes:
    """codes: [M, 3, K' / 8] int32, for each word of half bytes the bytes at its even places, those at its odd ones, and the sum
    of all eight; scales: [M, K' / 64] fp32. K' is K up to the next whole pair of groups."""

    codes: Tensor
    scales: Tensor

    @classmethod
    def empty(cls, rows: int, inputs: int, device: torch.device) -> "InBytes":
        groups = triton.cdiv(inputs, PAIR) * (PAIR // GROUP)
        codes = torch.empty(rows, 3, groups * PER_WORD, device=device, dtype=torch.int32)
        return cls(codes, torch.empty(rows, groups, device=device))


@triton.jit
def write_bytes(y, codes, scales, row, group, groups, COUNT: tl.constexpr):
    """y: [COUNT * 64] fp32, whole groups, zero behind the last input; group: [COUNT], theirs, unwritten from `groups` on."""
    y = tl.reshape(y, (COUNT, _PLACES, _GROUP // _PLACES))
    # What is no number makes its scale infinite, and so every output.
    size = tl.max(tl.max(tl.where(y != y, float("inf"), tl.abs(y)), axis=2), axis=1)
    size = tl.maximum(size, 1e-30) / 127.0
    byte = tl.floor(tl.where(y != y, 0.0, y) / size[:, None, None] + 0.5).to(tl.int32)
    place = tl.arange(0, _PLACES)[None, :, None]
    # A word's half bytes at even places lie in its bytes' lower halves.
    placed = (byte & 255) << (8 * (place // 2))
    word = tl.arange(0, _GROUP // _PLACES)[None, :]
    words = groups * (_GROUP // _PLACES)
    spot = codes + row * 3 * words + group[:, None] * (_GROUP // _PLACES) + word
    inside = (group < groups)[:, None] & (word >= 0)
    tl.store(spot, tl.sum(tl.where(place % 2 == 0, placed, 0), axis=1), mask=inside)
    tl.store(spot + words, tl.sum(tl.where(place % 2 == 1, placed, 0), axis=1), mask=inside)
    tl.store(spot + 2 * words, tl.sum(byte, axis=1), mask=inside)
    tl.store(scales + row * groups + group, size, mask=group < groups)


@triton.jit
def _bytes(x, codes, scales, inputs, groups, COUNT: tl.constexpr, EARLY: tl.constexpr):
    let_next_begin(EARLY)
    wait_for_last(EARLY)
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * COUNT
    at = first * _GROUP + tl.arange(0, COUNT * _GROUP)
    y = tl.load(x + row * inputs + at, mask=at < inputs, other=0.0).to(tl.float32)
    write_bytes(y, codes, scales, row, first + tl.arange(0, COUNT), groups, COUNT)


def as_bytes(x: Tensor) -> InBytes:
    """x: [M, K] bf16."""
    rows, inputs = x.shape
    out = InBytes.empty(rows, inputs, x.device)
    groups = out.scales.shape[1]
    _bytes[(rows, triton.cdiv(groups, 16))](
        x, out.codes, out.scales, inputs, groups, COUNT=16, num_warps=4, **overlap.options(x)
    )
    return out
