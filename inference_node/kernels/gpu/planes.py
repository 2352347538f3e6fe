"""Weights as two planes of half bytes: int8 reads both, int4 the upper one alone, so that one store serves both precisions.

A weight is scale * (16 h + l) with h and l in -8 .. 7, kept as h + 8 and l + 8; int4 takes 16 h for all of it. A scale belongs to
one output and GROUP inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 64
# Matrices have whole pairs of groups, so that two scales are one word.
PAIR = 2 * GROUP
# Inputs that one word of 32 bits holds, and words of a group.
PER_WORD = 8
WORDS = GROUP // PER_WORD
# 16 * 7 + 7: the largest that two half bytes can say.
LARGEST = 119.0


@dataclass(frozen=True, slots=True)
class Planes:
    """high, low: [N, K' / 8] int32; scale: [N, K' / 64] bf16. K' is K rounded up to a multiple of PAIR, with zeros beyond K.

    Input 64 g + 8 j + w lies in bits 4 j of word 8 g + w: the words of a group, read side by side, hold neighbours.
    """

    high: Tensor
    low: Tensor
    scale: Tensor
    inputs: int

    @property
    def outputs(self) -> int:
        return self.high.shape[0]

    def nbytes(self, bits: int) -> int:
        """What a step in 4 or 8 bits reads."""
        return self.high.nbytes + self.scale.nbytes + (self.low.nbytes if bits == 8 else 0)


def pack(weight: Tensor) -> Planes:
    """weight: [N, K] in any float dtype, on the device where the planes shall lie. Rounds to nearest."""
    inputs = weight.shape[1]
    high, low, scale = [], [], []
    # In parts: whole numbers of 32 bits take twice or four times what the weights do.
    for part in weight.split(max(1, _PART // max(1, inputs))):
        groups = torch.nn.functional.pad(part, (0, -inputs % PAIR)).float().view(part.shape[0], -1, GROUP)
        # Rounded before weights are divided by it, so that it brings no error of its own.
        size = (groups.abs().amax(-1) / LARGEST).clamp_min(1e-30).bfloat16()
        whole = (groups / size.float().unsqueeze(-1)).round_().clamp_(-LARGEST - 1, LARGEST).to(torch.int32)
        upper = torch.div(whole + 8, 16, rounding_mode="floor").clamp_(-8, 7)
        high.append(_words(upper + 8))
        low.append(_words((whole - 16 * upper).clamp_(-8, 7) + 8))
        scale.append(size)
    return Planes(torch.cat(high), torch.cat(low), torch.cat(scale), inputs)


def unpack(planes: Planes, bits: int) -> Tensor:
    """The weights that a product in 4 or 8 bits uses: [N, K] fp32."""
    whole = 16 * (_halves(planes.high) - 8)
    if bits == 8:
        whole = whole + _halves(planes.low) - 8
    scale = planes.scale.float().repeat_interleave(GROUP, dim=1)
    return (whole.float() * scale)[:, : planes.inputs].contiguous()


_PART = 1 << 24


def _words(halves: Tensor) -> Tensor:
    """halves: [N, groups, 64]. Bits of different half bytes do not meet, so a sum joins them; the uppermost may wrap around."""
    parts = halves.view(halves.shape[0], -1, PER_WORD, WORDS)
    words = torch.zeros_like(parts[:, :, 0])
    for place in range(PER_WORD):
        words |= parts[:, :, place] << (4 * place)
    return words.flatten(1).contiguous()


def _halves(words: Tensor) -> Tensor:
    groups = words.view(words.shape[0], -1, WORDS)
    shifted = torch.stack([(groups >> (4 * place)) & 15 for place in range(PER_WORD)], dim=2)
    return shifted.flatten(1)
