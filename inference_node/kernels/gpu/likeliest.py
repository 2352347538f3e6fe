"""The largest logit of each row and whose it is, in two launches: in one, a single row would keep one multiprocessor busy."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK = 2048


@triton.jit
def _of_chunks(logits, best, place, width, chunks, BLOCK: tl.constexpr):
    row, chunk = tl.program_id(0), tl.program_id(1)
    at = chunk * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row.to(tl.int64) * width + at, mask=at < width, other=float("-inf"))
    # What is no number counts as the largest there is, so that whoever reads the answer sees it.
    x = tl.where(x != x, float("inf"), x)
    largest = tl.max(x, axis=0)
    tl.store(best + row * chunks + chunk, largest)
    tl.store(place + row * chunks + chunk, tl.min(tl.where(x == largest, at, 2147483647), axis=0))


@triton.jit
def _of_all(best, place, out_best, out_place, chunks, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(best + row * chunks + at, mask=at < chunks, other=float("-inf"))
    largest = tl.max(x, axis=0)
    found = tl.load(place + row * chunks + at, mask=at < chunks, other=2147483647)
    tl.store(out_best + row, largest)
    tl.store(out_place + row, tl.min(tl.where(x == largest, found, 2147483647), axis=0))


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """logits: [R, V] fp32. Returns the largest of each row, infinite where one is no number, and its first place, int32."""
    rows, width = logits.shape
    chunks = triton.cdiv(width, _CHUNK)
    best, place = logits.new_empty(rows, chunks), logits.new_empty(rows, chunks, dtype=torch.int32)
    _of_chunks[(rows, chunks)](logits, best, place, width, chunks, BLOCK=_CHUNK, num_warps=4)
    out_best, out_place = logits.new_empty(rows), logits.new_empty(rows, dtype=torch.int32)
    _of_all[(rows,)](best, place, out_best, out_place, chunks, BLOCK=triton.next_power_of_2(chunks), num_warps=1)
    return out_best, out_place
