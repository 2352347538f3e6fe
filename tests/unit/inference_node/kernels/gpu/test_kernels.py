"""Each kernel against its reference, on fresh random inputs."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from inference_node.kernels.gpu import planes, reference
from inference_node.kernels.gpu.activation import gated
from inference_node.kernels.gpu.attention import (
    DecodeScratch,
    decode_attention,
    prefill_attention,
    queries_per_tile,
)
from inference_node.kernels.gpu.dense import dense
from inference_node.kernels.gpu.gemv import gemv_narrow
from inference_node.kernels.gpu.likeliest import likeliest
from inference_node.kernels.gpu.listed import listed
from inference_node.kernels.gpu.norm import add_norm, quantize_rows
from inference_node.kernels.gpu.planes_gemm import GemmScratch, planes_gemm
from inference_node.kernels.gpu.planes_pack import pack_on_device
from inference_node.kernels.gpu.planes_row import planes_row
from inference_node.kernels.gpu.planes_widen import planes_widened
from inference_node.kernels.gpu.rope import Turning, begin, rope_write

EPS = 1e-5
# Triton 3.6's interpreter loses the carry when it rounds to e4m3 (0.93 becomes 0.47), so that is tested on a GPU only.
WRITES_FP8 = [False, True] if torch.cuda.is_available() else [False]
# bf16 keeps 8 bits (and the interpreter cuts off where a GPU rounds), e4m3 keeps 4; the rest is another order of summation.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
]
BF16, FP8 = 2e-2, 4e-2


def randn(draw: Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=draw, device=draw.device) * scale


def far(found: Tensor, expected: Tensor) -> float:
    """Relative distance; no number is infinitely far."""
    found, expected = found.float(), expected.float()
    assert found.shape == expected.shape
    distance = float((found - expected).norm() / expected.norm().clamp_min(1e-9))
    return math.inf if math.isnan(distance) else distance


def far_pruned(found: Tensor, expected: Tensor) -> float:
    """The same, of entries that both keep; those at the cut-off may fall on either side."""
    both = (found != 0) & (expected != 0)
    assert int(((found != 0) != (expected != 0)).sum()) <= max(2, expected.numel() // 50)
    return far(found * both, expected * both)


def in_parts(draw: Generator, whole: Tensor) -> Tensor:
    """[M, N] as products leave it for whoever reads it: [3, M, N] fp32, whose sum it is."""
    first, second = (randn(draw, *whole.shape) for _ in range(2))
    return torch.stack((first, whole.float() - first - second, second))


def scalar(device: torch.device, value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([value], device=device, dtype=dtype)


class TestAddNorm:
    @pytest.mark.parametrize("options", ["plain", "scaled", "bias", "sandwich", "none"])
    @pytest.mark.parametrize("fp8", WRITES_FP8)
    def test_equals_reference(self, draw: Generator, device: torch.device, options: str, fp8: bool) -> None:
        rows, width, real = 3, 160, 2
        residual, delta = randn(draw, rows, width).bfloat16(), randn(draw, rows, width).bfloat16()
        gain, tau = 1 + randn(draw, width, scale=0.2), scalar(device, 0.4)
        known: dict[str, dict[str, Any]] = {
            "scaled": {"delta_scales": (randn(draw, rows).abs() + 0.1, randn(draw, width).abs() + 0.1)},
            "bias": {"delta_bias": randn(draw, width)},
            "sandwich": {"delta_gain": 1 + randn(draw, width, scale=0.2)},
        }
        given = known.get(options, {})
        change = None if options == "none" else delta
        after, expected = reference.add_norm(residual, change, gain, EPS, tau, **given)
        kept, mine = scalar(device, 0, torch.int32), residual.clone()
        out, scale = add_norm(mine, change, gain, EPS, tau, kept, scalar(device, real, torch.int32), fp8=fp8, **given)
        assert isinstance(out, Tensor)
        found = out.float() if scale is None else out.float() * scale[:, None]
        assert far(mine, after) < BF16
        assert far_pruned(found, expected) < (FP8 if fp8 else BF16)
        count = int((expected[:real] != 0).sum())
        assert abs(int(kept) - count) <= 8
        assert 0 < count < real * width
        if change is not None:
            again, mine = scalar(device, 0, torch.int32), residual.clone()
            out, scale = add_norm(
                mine, in_parts(draw, change), gain, EPS, tau, again, scalar(device, real, torch.int32), fp8=fp8, **given
            )
            assert isinstance(out, Tensor)
            found = out.float() if scale is None else out.float() * scale[:, None]
            assert far(mine, after) < BF16
            assert far_pruned(found, expected) < (FP8 if fp8 else BF16)

    @pytest.mark.skipif(not WRITES_FP8[-1], reason="the interpreter rounds to e4m3 wrongly")
    def test_quantizes_rows(self, draw: Generator) -> None:
        x = randn(draw, 3, 96).bfloat16()
        out, scale = quantize_rows(x)
        assert far(out.float() * scale[:, None], x) < FP8
        assert float(out.float().abs().amax()) == 448


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("fp8", WRITES_FP8)
@pytest.mark.parametrize("full", [False, True])
def test_gate_equals_reference(draw: Generator, device: torch.device, gelu: bool, fp8: bool, full: bool) -> None:
    rows, width = 3, 1100
    gate_up = randn(draw, rows, 2 * width).bfloat16()
    given: dict[str, Any] = {}
    if full:
        given = {
            "scales": (randn(draw, rows).abs() + 0.5, randn(draw, 2 * width).abs() + 0.5),
            "bias": randn(draw, 2 * width),
        }
    tau, kept = scalar(device, 0.1), scalar(device, 0, torch.int32)
    expected = reference.gated(gate_up, tau, gelu=gelu, **given)
    out, scale = gated(gate_up, tau, kept, scalar(device, rows, torch.int32), gelu=gelu, fp8=fp8, **given)
    assert isinstance(out, Tensor)
    found = out.float() if scale is None else out.float() * scale[:, None]
    assert far(found, expected) < (FP8 if fp8 else BF16)
    assert abs(int(kept) - int((expected != 0).sum())) <= 60
    out, scale = gated(
        in_parts(draw, gate_up), tau, kept, scalar(device, rows, torch.int32), gelu=gelu, fp8=fp8, **given
    )
    assert isinstance(out, Tensor)
    assert far(out.float() if scale is None else out.float() * scale[:, None], expected) < (FP8 if fp8 else BF16)


class Paged:
    """Runs with keys and values in pages that nobody else shares, in an order that is no order."""

    def __init__(self, draw: Generator, *, contexts: list[int], key_heads: int, dim: int, narrow: bool) -> None:
        self.size, self.contexts = 16, contexts
        widest = -(-max(contexts) // self.size)
        blocks = widest * len(contexts) + 1
        self.tables = torch.randperm(blocks - 1, generator=draw, device=draw.device).view(len(contexts), -1).int()
        self.pages = randn(draw, blocks, 2, key_heads, self.size, dim).bfloat16()
        self.scales: Tensor | None = None
        if narrow:
            self.scales = randn(draw, blocks, 2, key_heads, self.size).abs() + 0.1
            self.pages = self.pages.float().to(torch.float8_e4m3fn)

    def of(self, run: int) -> tuple[Tensor, Tensor]:
        return reference.keys_values(self.pages, self.scales, self.tables[run], self.contexts[run])


@pytest.mark.parametrize("narrow", WRITES_FP8)
@pytest.mark.parametrize("head_gains", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_rope_writes_keys_and_values(draw: Generator, narrow: bool, head_gains: bool, full: bool) -> None:
    rows, heads, key_heads, dim = 5, 4, 2, 24
    device = draw.device
    cache = Paged(draw, contexts=[40, 70], key_heads=key_heads, dim=dim, narrow=narrow)
    qkv = randn(draw, rows, (heads + 2 * key_heads) * dim).bfloat16()
    angles = randn(draw, 100, dim // 2)
    turns = torch.stack((angles.cos(), angles.sin()), dim=1)
    given: dict[str, Any] = {}
    if full:
        given = {
            "scales": (randn(draw, rows).abs() + 0.5, randn(draw, qkv.shape[1]).abs() + 0.5),
            "bias": randn(draw, qkv.shape[1]),
        }
    if head_gains:
        given["head_gains"] = (1 + randn(draw, dim, scale=0.2), 1 + randn(draw, dim, scale=0.2))
    positions = torch.tensor([3, 17, 18, 39, 69], device=device, dtype=torch.int32)
    runs = torch.tensor([0, 0, 0, 0, 1], device=device, dtype=torch.int32)
    embedding = randn(draw, 50, 64).bfloat16()
    tokens = torch.tensor([7, 8, 9, 10, 11], device=device, dtype=torch.int32)
    sources = torch.tensor([-1, -1, 1, -1, 0], device=device, dtype=torch.int32)
    last = torch.tensor([30, 40], device=device, dtype=torch.int32)
    residual, slots = begin(tokens, sources, last, positions, runs, cache.tables, embedding, 2.0, cache.size)
    assert torch.equal(residual, (embedding[[7, 8, 40, 10, 30]].float() * 2).bfloat16())
    before = cache.pages.float().clone()
    given_rows = in_parts(draw, qkv) if full else qkv
    q = rope_write(given_rows, Turning(turns, 0.25, EPS, **given), positions, slots, cache.pages, cache.scales, heads)
    queries, keys, values = reference.turned(qkv, turns, positions, heads, key_heads, eps=EPS, **given)
    assert far(q, queries * 0.25) < BF16
    untouched = torch.ones(before.shape, dtype=torch.bool, device=device)
    for row in range(rows):
        block = int(cache.tables[runs[row], positions[row] // cache.size])
        place = int(positions[row]) % cache.size
        entry = cache.pages[block, :, :, place].float()
        if cache.scales is not None:
            entry = entry * cache.scales[block, :, :, place].unsqueeze(-1)
        assert far(entry, torch.stack((keys[row], values[row]))) < (2 * FP8 if narrow else BF16)
        untouched[block, :, :, place] = False
    assert torch.equal(cache.pages.float()[untouched], before[untouched])


@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 2, 16), (3, 1, 24), (16, 1, 64), (2, 2, 128)])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("window", [0, 37])
def test_decode_attention(
    draw: Generator, heads: int, key_heads: int, dim: int, narrow: bool, splits: int, window: int
) -> None:
    contexts = [1, 64, 65, 300]
    device = draw.device
    cache = Paged(draw, contexts=contexts, key_heads=key_heads, dim=dim, narrow=narrow)
    q = randn(draw, len(contexts), heads, dim, scale=dim**-0.5).to(torch.float16 if narrow else torch.bfloat16)
    scratch = DecodeScratch(len(contexts), heads, key_heads, dim, splits, device)
    scratch.partial.fill_(math.nan)
    positions = torch.tensor([count - 1 for count in contexts], device=device, dtype=torch.int32)
    runs = torch.arange(len(contexts), device=device, dtype=torch.int32)
    zero, kept = scalar(device, 0.0), scalar(device, 0, torch.int32)
    for _ in range(2):  # the second time with counters as the first left them
        out = decode_attention(
            q,
            cache.pages,
            cache.scales,
            positions,
            runs,
            cache.tables,
            scratch,
            zero,
            kept,
            scalar(device, 2, torch.int32),
            window,
        )
        assert isinstance(out, Tensor)
        for row, context in enumerate(contexts):
            expected = reference.attention(q[row : row + 1], *cache.of(row), context - 1, window)
            assert far(out[row : row + 1], expected) < BF16
    assert 0 <= 4 * heads * dim - int(kept) <= 4 * heads * dim // 20  # a value may be rounded to zero


@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 2, 16), (3, 1, 24), (2, 2, 128)])
@pytest.mark.parametrize("narrow", WRITES_FP8)
@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("full", [False, True])
# Of two rows at most a launch begins early on a card that can.
@pytest.mark.parametrize("contexts", [[1, 17, 64, 65, 130], [130], [1, 129]])
def test_decode_attention_turns_and_writes_what_is_new(
    draw: Generator, heads: int, key_heads: int, dim: int, narrow: bool, splits: int, full: bool, contexts: list[int]
) -> None:
    window = 37 if full else 0
    rows, device = len(contexts), draw.device
    cache = Paged(draw, contexts=contexts, key_heads=key_heads, dim=dim, narrow=narrow)
    qkv = randn(draw, rows, (heads + 2 * key_heads) * dim).bfloat16()
    angles = randn(draw, 140, dim // 2)
    turns = torch.stack((angles.cos(), angles.sin()), dim=1)
    given: dict[str, Any] = {}
    if full:
        given = {
            "scales": (randn(draw, rows).abs() + 0.5, randn(draw, qkv.shape[1]).abs() + 0.5),
            "bias": randn(draw, qkv.shape[1]),
            "head_gains": (1 + randn(draw, dim, scale=0.2), 1 + randn(draw, dim, scale=0.2)),
        }
    positions = torch.tensor([count - 1 for count in contexts], device=device, dtype=torch.int32)
    runs = torch.arange(rows, device=device, dtype=torch.int32)
    queries, keys, values = reference.turned(qkv, turns, positions, heads, key_heads, eps=EPS, **given)
    scratch = DecodeScratch(rows, heads, key_heads, dim, splits, device)
    scratch.partial.fill_(math.nan)
    before = cache.pages.float().clone()
    for row, context in enumerate(contexts):
        # What stood there before it was written must not count.
        cache.pages.view(torch.uint8)[cache.tables[row, (context - 1) // 16], :, :, (context - 1) % 16] = 0x3A
    scale = dim**-0.5
    out = decode_attention(
        in_parts(draw, qkv) if full else qkv, cache.pages, cache.scales, positions, runs, cache.tables, scratch,
        scalar(device, 0.0), scalar(device, 0, torch.int32), scalar(device, rows, torch.int32), window,
        turning=Turning(turns, scale, EPS, **given),
    )  # fmt: skip
    assert isinstance(out, Tensor)
    for row, context in enumerate(contexts):
        mine = cache.of(row)
        assert far(mine[0][-1], keys[row]) < (2 * FP8 if narrow else BF16)
        assert far(mine[1][-1], values[row]) < (2 * FP8 if narrow else BF16)
        expected = reference.attention(queries[row : row + 1] * scale, *mine, context - 1, window)
        assert far(out[row : row + 1], expected) < BF16
    for row, context in enumerate(contexts):
        before[cache.tables[row, (context - 1) // 16], :, :, (context - 1) % 16] = 0
        cache.pages.view(torch.uint8)[cache.tables[row, (context - 1) // 16], :, :, (context - 1) % 16] = 0
    assert torch.equal(cache.pages.float(), before)


@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 2, 16), (3, 1, 24), (16, 1, 64), (2, 2, 128)])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("window", [0, 37])
def test_prefill_attention(draw: Generator, heads: int, key_heads: int, dim: int, narrow: bool, window: int) -> None:
    spans = [(0, 70), (64, 1), (31, 60)]  # start and number of new tokens
    device = draw.device
    cache = Paged(draw, contexts=[a + n for a, n in spans], key_heads=key_heads, dim=dim, narrow=narrow)
    rows = sum(n for _, n in spans)
    q = randn(draw, rows, heads, dim, scale=dim**-0.5).to(torch.float16 if narrow else torch.bfloat16)
    most = queries_per_tile(heads // key_heads, dim)
    tiles, row = [], 0
    for run, (start, count) in enumerate(spans):
        tiles += [(row + i, min(most, count - i), start + i, run) for i in range(0, count, most)]
        row += count
    tiles += [(0, 0, 0, 0)] * 2
    laid = torch.tensor(tiles, dtype=torch.int32, device=device).t().contiguous()
    out = prefill_attention(
        q, cache.pages, cache.scales, laid, cache.tables, scalar(device, 0.0), scalar(device, 0, torch.int32), window
    )
    row = 0
    for run, (start, count) in enumerate(spans):
        expected = reference.attention(q[row : row + count], *cache.of(run), start, window)
        assert far(out[row : row + count], expected) < BF16
        row += count


class TestProducts:
    @pytest.mark.parametrize(("inputs", "outputs"), [(96, 80), (256, 128), (1000, 257)])
    @pytest.mark.parametrize("rows", [1, 2, 17])
    def test_few_rows_in_bf16(self, draw: Generator, inputs: int, outputs: int, rows: int) -> None:
        x, weight = randn(draw, rows, inputs).bfloat16(), randn(draw, inputs, outputs).bfloat16()
        parts = dense(x, weight)
        assert parts.shape[1:] == (rows, outputs)
        assert far(parts.sum(0), x.float() @ weight.float()) < 1e-3

    @pytest.mark.parametrize(("inputs", "outputs"), [(96, 80), (200, 520), (1000, 256), (9000, 64)])
    @pytest.mark.parametrize("dropped", [False, True])
    def test_one_row_whose_zeros_are_skipped(self, draw: Generator, inputs: int, outputs: int, dropped: bool) -> None:
        x, weight = randn(draw, 1, inputs).bfloat16(), randn(draw, inputs, outputs).bfloat16()
        if dropped:
            x = reference.prune(x, scalar(draw.device, 0.7))
            # Weights that do not count are not read, whatever they are.
            weight[x[0] == 0] = math.nan
        for parts in (dense(x, weight, skips=True), listed(x, weight)):
            assert far(parts.sum(0), x.float() @ weight.float().nan_to_num()) < 1e-3

    def test_a_row_of_nothing_is_nothing(self, draw: Generator) -> None:
        weight = randn(draw, 96, 80).bfloat16()
        nothing = torch.zeros(1, 96, device=draw.device).bfloat16()
        assert not listed(nothing, weight).any()
        assert not dense(nothing, weight, skips=True).any()

    @pytest.mark.parametrize(("inputs", "outputs"), [(96, 80), (200, 52), (1000, 36)])
    @pytest.mark.parametrize("rows", [1, 2])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_few_rows_in_planes(self, draw: Generator, inputs: int, outputs: int, rows: int, bits: int) -> None:
        x = randn(draw, rows, inputs).bfloat16()
        packed = planes.pack(randn(draw, outputs, inputs))
        found = planes_row(x, packed, bits=bits, dtype=torch.float32)
        # Of the same bytes nothing is lost but the order of sums; one that lies between two may round either way, though.
        assert far(found, reference.in_bytes(x) @ planes.unpack(packed, bits).t()) < 2e-3
        assert far(found, x.float() @ planes.unpack(packed, bits).t()) < 0.02

    @pytest.mark.filterwarnings("ignore:invalid value encountered in multiply:RuntimeWarning")
    def test_what_is_no_number_stays_none_in_planes(self, draw: Generator) -> None:
        x, packed = randn(draw, 2, 200).bfloat16(), planes.pack(randn(draw, 20, 200))
        x[1, 77] = math.nan
        found = planes_row(x, packed, bits=4, dtype=torch.float32)
        assert found[0].isfinite().all()
        assert not found[1].isfinite().any()

    def test_one_row_in_e4m3(self, draw: Generator) -> None:
        x = randn(draw, 1, 1100).bfloat16()
        weight, scale = randn(draw, 50, 1100).to(torch.float8_e4m3fn), randn(draw, 50).abs() + 0.1
        expected = x.float() @ weight.float().t() * scale
        assert far(gemv_narrow(x, weight, scale, dtype=torch.float32), expected) < 1e-3

    @pytest.mark.parametrize("rows", [2, 17, 70])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_rows_in_planes(self, draw: Generator, rows: int, bits: int) -> None:
        inputs, outputs = 200, 520
        x, packed = randn(draw, rows, inputs).bfloat16(), planes.pack(randn(draw, outputs, inputs))
        scratch = GemmScratch(draw.device, outputs, 4)
        scratch.parts.fill_(math.nan)
        expected = x.float() @ planes.unpack(packed, bits).t()
        for _ in range(2):
            assert far(planes_gemm(x, packed, scratch, bits=bits), expected) < BF16

    @pytest.mark.parametrize("bits", [4, 8])
    def test_planes_as_bf16(self, draw: Generator, bits: int) -> None:
        packed = planes.pack(randn(draw, 70, 200))
        found, exact = planes_widened(packed, bits), planes.unpack(packed, bits)
        assert found.shape == exact.shape
        assert far(found, exact) < 0.004


class TestLikeliest:
    def test_finds_the_first_of_the_largest(self, draw: Generator) -> None:
        logits = randn(draw, 3, 5000)
        logits[1, 4321] = logits[1, 77] = 9.0
        best, place = likeliest(logits)
        assert place.tolist() == logits.argmax(-1).tolist()
        assert int(place[1]) == 77
        assert torch.equal(best, logits.amax(-1))

    def test_what_is_no_number_is_told(self, draw: Generator) -> None:
        logits = randn(draw, 2, 5000)
        logits[0, 3000] = math.nan
        best, _ = likeliest(logits)
        assert math.isinf(float(best[0]))
        assert not math.isinf(float(best[1]))


class TestPlanes:
    def test_eight_bits_are_near_the_weights(self, draw: Generator) -> None:
        weight = randn(draw, 130, 40)
        packed = planes.pack(weight)
        assert far(planes.unpack(packed, 8), weight) < 0.01
        assert far(planes.unpack(packed, 4), weight) < 0.16

    @pytest.mark.parametrize(("outputs", "inputs"), [(130, 200), (64, 64), (7, 1000)])
    @pytest.mark.parametrize("lies_turned", [False, True])
    def test_one_pass_packs_the_same_bits(self, draw: Generator, outputs: int, inputs: int, lies_turned: bool) -> None:
        weight = randn(draw, inputs, outputs).bfloat16().t() if lies_turned else randn(draw, outputs, inputs).bfloat16()
        weight[3, :64] = 0  # a group of nothing
        weight[4, :64] = 1000 * torch.sign(weight[4, :64].float()).bfloat16()
        found, expected = pack_on_device(weight), planes.pack(weight)
        assert found.inputs == expected.inputs
        if weight.is_cuda:
            for name in ("high", "low", "scale"):
                assert torch.equal(getattr(found, name), getattr(expected, name)), name
        # The interpreter cuts scales off where a GPU rounds them.
        for bits, limit in ((8, 0.012), (4, 0.16)):
            assert far(planes.unpack(found, bits), weight) < limit

    def test_four_bits_are_the_upper_half_of_eight(self, draw: Generator) -> None:
        packed = planes.pack(randn(draw, 64, 40))
        step = packed.scale.float().repeat_interleave(planes.GROUP, dim=1)[:, :40]
        apart = (planes.unpack(packed, 8) - planes.unpack(packed, 4)) / step
        assert float(apart.amin()) >= -8
        assert float(apart.amax()) <= 7
