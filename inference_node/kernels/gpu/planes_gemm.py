"""Several rows times a matrix in half bytes, on the matrix units: weights become bf16 on the way, tile by tile."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu.planes import Planes

_COLUMNS = 64
# Words of a step: 8 inputs each.
_WORDS = 16


@triton.jit(do_not_specialize=["splits", "rows"])
def _gemm(
    x, high, low, scale, parts, arrived, out, rows, inputs, outputs, words, share, splits,
    BOTH: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    # Programs that share weights run side by side, so that all but the first find them in the L2 cache.
    tile, block, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tile * ROWS + tl.arange(0, ROWS)
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < outputs
    begin = split * share
    end = tl.minimum(begin + share, words)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    line = column[None, :].to(tl.int64)
    for first in tl.range(begin, end, WORDS):
        word = first + tl.arange(0, WORDS)
        mask = (word < end)[:, None] & inside[None, :]
        upper = tl.load(high + line * words + word[:, None], mask=mask, other=0)
        lower = upper
        if BOTH:
            lower = tl.load(low + line * words + word[:, None], mask=mask, other=0)
        size = tl.load(scale + line * (words // 8) + (word // 8)[:, None], mask=mask, other=0.0).to(tl.float32)
        k = word // 8 * 64 + word % 8
        for place in tl.static_range(8):
            depth = k + 8 * place
            values = tl.load(
                x + row[:, None].to(tl.int64) * inputs + depth[None, :],
                mask=(row < rows)[:, None] & ((depth < inputs) & (word < end))[None, :], other=0.0,
            )  # fmt: skip
            whole = ((upper >> (4 * place)) & 15) * 16 - 128
            if BOTH:
                whole += ((lower >> (4 * place)) & 15) - 8
            total = tl.dot(values, (whole.to(tl.float32) * size).to(tl.bfloat16), total)
    fits = (row < rows)[:, None] & inside[None, :]
    target = out + row[:, None].to(tl.int64) * outputs + column[None, :]
    if not SPLIT:
        tl.store(target, total.to(out.dtype.element_ty), mask=fits)
    else:
        place = parts + row[:, None].to(tl.int64) * outputs + column[None, :]
        tl.store(place + split * rows.to(tl.int64) * outputs, total, mask=fits)
        tl.debug_barrier()
        counter = arrived + tile * tl.num_programs(1) + block
        count = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
        if count == splits - 1:
            tl.store(counter, 0)
            total = tl.zeros((ROWS, COLUMNS), tl.float32)
            for index in range(splits):
                total += tl.load(
                    place + index * rows.to(tl.int64) * outputs, mask=fits, other=0.0, cache_modifier=".cg"
                )
            tl.store(target, total.to(out.dtype.element_ty), mask=fits)


class GemmScratch:
    """Parts of the products of one stream of steps, which follow one another, up to ROWS rows: taller ones are not split."""

    ROWS = 64
    SPLITS = 8

    def __init__(self, device: torch.device, outputs: int, multiprocessors: int) -> None:
        self.multiprocessors = multiprocessors
        self.parts = torch.empty(
            self.ROWS * min(self.SPLITS * outputs, 4 * multiprocessors * _COLUMNS + outputs), device=device
        )
        self.arrived = torch.zeros(4 * triton.cdiv(outputs, _COLUMNS), device=device, dtype=torch.int32)

    def split(self, rows: int, words: int, outputs: int) -> tuple[int, int]:
        """(parts that the words are cut into, words of each)."""
        steps = triton.cdiv(words, _WORDS)
        wanted = 1
        if rows <= self.ROWS:
            wanted = max(1, min(self.SPLITS, steps, 4 * self.multiprocessors // triton.cdiv(outputs, _COLUMNS)))
        share = triton.cdiv(steps, wanted)
        return triton.cdiv(steps, share), share * _WORDS


def planes_gemm(
    x: Tensor, weight: Planes, scratch: GemmScratch, *, bits: int = 8, dtype: torch.dtype = torch.bfloat16
) -> Tensor:
    """x: [M, K] bf16. Returns [M, N]; weights are rounded to bf16, sums are fp32."""
    rows, inputs = x.shape
    words, outputs = weight.high.shape[1], weight.outputs
    out = torch.empty(rows, outputs, device=x.device, dtype=dtype)
    tall = 16 if rows <= 16 else 32 if rows <= 32 else 64 if rows <= 64 else 128
    wide = _COLUMNS if tall < 128 else 2 * _COLUMNS
    splits, share = scratch.split(rows, words, outputs)
    _gemm[(triton.cdiv(rows, tall), triton.cdiv(outputs, wide), splits)](
        x, weight.high, weight.low, weight.scale, scratch.parts, scratch.arrived, out, rows, inputs, outputs, words, share,
        splits, BOTH=bits == 8, SPLIT=splits > 1, ROWS=tall, COLUMNS=wide, WORDS=_WORDS,
        num_warps=8 if tall == 128 else 4, num_stages=3,
    )  # fmt: skip
    return out
