"""One or two rows times a matrix in half bytes, by programs that keep the rows in registers and walk over outputs.

Turning half bytes into floats costs more instructions than memory gives time for. Activations are bytes, 64 to a scale, and the
instruction `dp4a` multiplies four bytes with four bytes and adds them up: eight half bytes take an `and`, a shift, an `and` and
two of it. What a thread has of a group it adds up as whole numbers, so that four words are turned into one float. The weights of
the outputs that follow are on their way while those at hand are multiplied, and those of the first while the launch before still
runs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_node.kernels.gpu import overlap, tuned
from inference_node.kernels.gpu.in_bytes import InBytes, as_bytes
from inference_node.kernels.gpu.overlap import let_next_begin, wait_for_last
from inference_node.kernels.gpu.planes import WORDS, Planes
from inference_node.kernels.gpu.tuned import RowTuning

# Above, a thread has too few registers, and products on the matrix units are faster.
MOST_ROWS = 2


@triton.jit
def _dot4(a, b, total, NATIVE: tl.constexpr):
    """total + the four bytes of a (0 .. 15) times those of b (-127 .. 127)."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, total], dtype=tl.int32, is_pure=True, pack=1
        )
    total += (a & 255) * ((b << 24) >> 24)
    total += ((a >> 8) & 255) * ((b << 16) >> 24)
    total += ((a >> 16) & 255) * ((b << 8) >> 24)
    total += ((a >> 24) & 255) * (b >> 24)
    return total


@triton.jit
def _whole(upper, lower, even, odd, excess, BOTH: tl.constexpr, NATIVE: tl.constexpr):
    """Half bytes [COLUMNS, WORDS] times a row: [COLUMNS, PIECES] int32, summed up over the four words of a piece."""
    pieces: tl.constexpr = [upper.shape[0], upper.shape[1] // 4, 4]
    found = _dot4((upper >> 4) & 0x0F0F0F0F, odd + tl.zeros_like(upper), tl.zeros_like(upper), NATIVE)
    found = _dot4(upper & 0x0F0F0F0F, even + tl.zeros_like(upper), found, NATIVE)
    total = tl.sum(tl.reshape(found, pieces), axis=2) - excess
    if BOTH:
        found = _dot4((lower >> 4) & 0x0F0F0F0F, odd + tl.zeros_like(upper), tl.zeros_like(upper), NATIVE)
        found = _dot4(lower & 0x0F0F0F0F, even + tl.zeros_like(upper), found, NATIVE)
        total = total * 16 + (tl.sum(tl.reshape(found, pieces), axis=2) - excess)
    return total


@triton.jit
def _row(x, x_scale, words, groups, factor, WORDS: tl.constexpr):
    """A row's bytes at even places and at odd ones, what half bytes, being 8 too large, add to its pieces, and their scales."""
    at = tl.arange(0, WORDS)
    even = tl.load(x + at, mask=at < words, other=0)
    odd = tl.load(x + words + at, mask=at < words, other=0)
    sums = tl.load(x + 2 * words + at, mask=at < words, other=0)
    group = tl.arange(0, WORDS // 4) // 2
    size = tl.load(x_scale + group, mask=group < groups, other=0.0) * factor
    return even[None, :], odd[None, :], 8 * tl.sum(tl.reshape(sums, [WORDS // 4, 4]), axis=1)[None, :], size[None, :]


@triton.jit
def _planes_row(
    x, x_scale, high, low, scale, out, outputs, groups, blocks,
    BOTH: tl.constexpr, TWO: tl.constexpr, COLUMNS: tl.constexpr, WORDS: tl.constexpr, STAGES: tl.constexpr,
    WHOLE: tl.constexpr, NATIVE: tl.constexpr, AT_ONCE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if AT_ONCE:
        let_next_begin(EARLY)
    words = groups * 8
    first = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    factor = 1.0 if BOTH else 16.0
    even, odd = tl.zeros((1, WORDS), tl.int32), tl.zeros((1, WORDS), tl.int32)
    excess, size = tl.zeros((1, WORDS // 4), tl.int32), tl.zeros((1, WORDS // 4), tl.float32)
    even_2, odd_2, excess_2, size_2 = even, odd, excess, size
    at = tl.arange(0, WORDS)[None, :]
    piece = tl.arange(0, WORDS // 4)[None, :]
    # Two scales a word, since loads of two bytes cannot be on their way ahead.
    pairs = groups // 2
    pair, shift = tl.minimum(piece // 4, pairs - 1), 16 * (1 - piece // 2 % 2)
    for block in tl.range(first, blocks, tl.num_programs(0), num_stages=STAGES):
        # What stands for outputs and inputs that are none is of others: the former are not stored, of the latter x is zero.
        output = tl.minimum(block * COLUMNS + column, outputs - 1)[:, None].to(tl.int64)
        line = output * words
        if WHOLE:
            upper = tl.load(high + line + at, eviction_policy="evict_first")
        else:
            upper = tl.load(high + line + at, mask=at < words, eviction_policy="evict_first")
        lower = upper
        if BOTH and WHOLE:
            lower = tl.load(low + line + at, eviction_policy="evict_first")
        elif BOTH:
            lower = tl.load(low + line + at, mask=at < words, eviction_policy="evict_first")
        theirs = tl.load(scale + output * pairs + pair)
        if block == first:
            # Pipelined, the loop asks for weights of STAGES - 1 outputs before it begins, hence before this wait.
            wait_for_last(EARLY)
            even, odd, excess, size = _row(x, x_scale, words, groups, factor, WORDS)
            if TWO:
                even_2, odd_2, excess_2, size_2 = _row(x + 3 * words, x_scale + groups, words, groups, factor, WORDS)
        theirs = ((theirs << shift) & -65536).to(tl.float32, bitcast=True)
        target = block * COLUMNS + column
        y = tl.sum(_whole(upper, lower, even, odd, excess, BOTH, NATIVE).to(tl.float32) * (theirs * size), axis=1)
        tl.store(out + target, y.to(out.dtype.element_ty), mask=target < outputs)
        if TWO:
            y = tl.sum(
                _whole(upper, lower, even_2, odd_2, excess_2, BOTH, NATIVE).to(tl.float32) * (theirs * size_2), axis=1
            )
            tl.store(out + outputs + target, y.to(out.dtype.element_ty), mask=target < outputs)
    if not AT_ONCE:
        let_next_begin(EARLY)


def planes_row(
    x: Tensor | InBytes,
    weight: Planes,
    *,
    bits: int = 8,
    dtype: torch.dtype = torch.bfloat16,
    at_once: bool = False,
    tuning: RowTuning | None = None,
) -> Tensor:
    """x: [M, K] bf16 or bytes, M up to MOST_ROWS. Returns [M, N]: exact in whole numbers within half a group, fp32 beyond.

    at_once: see `overlap`.
    """
    given = x if isinstance(x, InBytes) else as_bytes(x)
    device = given.codes.device
    rows, outputs, groups = given.scales.shape[0], weight.outputs, weight.scale.shape[1]
    how = tuning or tuned.here().row(f"int{bits}", weight.inputs)
    words = triton.next_power_of_2(groups * WORDS)
    blocks = triton.cdiv(outputs, how.columns)
    out = torch.empty(rows, outputs, device=device, dtype=dtype)
    _planes_row[(min(blocks, how.programs * tuned.multiprocessors()),)](
        given.codes, given.scales, weight.high, weight.low, weight.scale.view(torch.int32), out, outputs, groups, blocks,
        BOTH=bits == 8, TWO=rows == 2, COLUMNS=how.columns, WORDS=words, STAGES=how.stages, WHOLE=words == groups * WORDS,
        NATIVE=device.type == "cuda", AT_ONCE=at_once, num_warps=how.warps, **overlap.options(given.codes),
    )  # fmt: skip
    return out
