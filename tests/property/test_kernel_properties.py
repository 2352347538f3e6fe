"""Fused paths equal the plain truth, and no row's result depends on what runs beside it."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from inference_node.kernels import reference
from inference_node.kernels.attention import Run, attend, plan_groups
from inference_node.kernels.linear import PackedLinear
from inference_node.kernels.rms_norm import rms_norm
from inference_node.kernels.rotary import RotaryTable, interleave_pairs, rotate_pairs
from inference_node.kernels.rows import RowPlan, find_equal_sizes
from inference_node.quantization.int8 import Int8Linear, dequantize_rows, quantize_rows

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
# 0 is none; the others lie beside and across the edges of tiles and of key blocks.
WINDOWS = st.sampled_from([0, 1, 40, 128, 500, 512, 513, 1000])
BLOCK, DIM = 16, 32
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def make_pool(key_heads: int, dtype: torch.dtype, tokens: int = 1600, dim: int = DIM) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(-(-tokens // BLOCK), BLOCK, 2, key_heads, dim, generator=generator).to(dtype)


def random_rows(count: int, *shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class TestAttention:
    @QUICK
    @given(DTYPES, st.integers(0, 1580), st.integers(1, 200), st.sampled_from([(4, 2), (3, 1), (2, 2)]), WINDOWS)
    def test_equals_the_reference(
        self, dtype: torch.dtype, start: int, count: int, heads: tuple[int, int], window: int
    ) -> None:
        """Within rounding: 2e-5 in fp32; in bf16 weights are rounded to 8 bits before they meet the values."""
        count = min(count, 1600 - start)
        pool = make_pool(heads[1], dtype)
        q = random_rows(count, heads[0], DIM, dtype=dtype)
        table = list(range(pool.shape[0]))
        groups = plan_groups(
            [Run(0, start, count, table)],
            dtype=dtype,
            block_size=BLOCK,
            heads_per_key=heads[0] // heads[1],
            window=window,
        )
        found = attend(q, pool, groups).view(count, heads[0], DIM).float()
        flat = pool.flatten(0, 1)[: start + count]
        expected = reference.causal_attention(q, flat[:, 0], flat[:, 1], start, window)
        torch.testing.assert_close(found, expected, atol=2e-5 if dtype == torch.float32 else 2e-2, rtol=0)

    @QUICK
    @given(DTYPES, st.sampled_from([(9, 3), (4, 4), (4, 1)]), st.sampled_from([32, 64, 128, 256]), WINDOWS, st.data())
    def test_a_token_does_not_feel_its_batch_mates(
        self, dtype: torch.dtype, heads: tuple[int, int], dim: int, window: int, data: st.DataObject
    ) -> None:
        """Bit by bit: alone as a decode row, in any chunk of its prompt, and beside other sequences."""
        query_heads, key_heads = heads
        pool = make_pool(key_heads, dtype, dim=dim)
        total = pool.shape[0] * BLOCK
        q = random_rows(total, query_heads, dim, dtype=dtype)
        table = list(range(pool.shape[0]))

        def run(runs: list[Run], rows: torch.Tensor) -> torch.Tensor:
            fold = query_heads // key_heads
            groups = plan_groups(runs, dtype=dtype, block_size=BLOCK, heads_per_key=fold, window=window)
            return attend(rows, pool, groups)

        position = data.draw(st.integers(0, total - 1), label="position")
        alone = run([Run(0, position, 1, table)], q[position : position + 1])[0]
        start = data.draw(st.integers(0, position), label="start")
        count = data.draw(st.integers(position - start + 1, total - start), label="count")
        chunk = run([Run(0, start, count, table)], q[start : start + count])[position - start]
        assert torch.equal(alone, chunk)
        others = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=12), label="others")
        places = [position, *others]
        together = run([Run(i, at, 1, table) for i, at in enumerate(places)], q[places])[0]
        assert torch.equal(alone, together)


class TestRows:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(576, 960), (1536, 576)])
    def test_padded_products_give_equal_rows_for_any_number_of_them(
        self, dtype: torch.dtype, shape: tuple[int, int]
    ) -> None:
        linear = PackedLinear(0.05 * random_rows(shape[1], shape[0], dtype=dtype, seed=3))
        linear.rows = find_equal_sizes(linear.product, shape[0], dtype)
        plan = RowPlan([linear.rows])
        rows = random_rows(1100, shape[0], dtype=dtype, seed=4)

        def product(count: int) -> torch.Tensor:
            padded = torch.zeros(plan.pad(count), shape[0], dtype=dtype)
            padded[:count] = rows[:count]
            return linear(padded)[:count]

        whole = product(1100)
        for count in (1, 2, 3, 7, 17, 32, 33, 47, 63, 65, 100, 129, 200, 257, 300, 511, 513, 700):
            assert torch.equal(product(count), whole[:count]), count

    @given(st.integers(1, 3000))
    def test_padding_never_shrinks_and_never_more_than_doubles_large_steps(self, rows: int) -> None:
        from inference_node.kernels.rows import RowSizes

        plan = RowPlan([RowSizes([40, 64, 96, 128, 256]), RowSizes([2, 48, 64, 96, 160])])
        padded = plan.pad(rows)
        assert rows <= padded <= max(64, rows + 64)


class TestElementwise:
    @QUICK
    @given(DTYPES, st.integers(1, 70), st.integers(0, 69))
    def test_norm_equals_the_reference_and_rows_are_apart(self, dtype: torch.dtype, count: int, row: int) -> None:
        x = random_rows(count, 576, dtype=dtype)
        weight = random_rows(1, 576, dtype=torch.float32, seed=2)[0]
        found = rms_norm(x, weight, 1e-5)
        expected = reference.rms_norm(x.float(), weight, 1e-5)
        torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=1e-5 if dtype == torch.float32 else 8e-3)
        row %= count
        assert torch.equal(found[row : row + 1], rms_norm(x[row : row + 1], weight, 1e-5))

    @QUICK
    @given(DTYPES, st.integers(1, 70), st.integers(0, 69), st.sampled_from([1, 2]))
    def test_a_gate_does_not_feel_the_other_rows(self, dtype: torch.dtype, count: int, row: int, threads: int) -> None:
        """Bit by bit, of either activation, as a view of gates beside what they open."""
        row %= count
        gates_and_ups = random_rows(count, 2 * 1152, dtype=dtype)
        torch.set_num_threads(threads)
        for gate in (functional.silu, partial(functional.gelu, approximate="tanh")):
            together = gate(gates_and_ups.chunk(2, dim=-1)[0])
            alone = gate(gates_and_ups[row : row + 1].chunk(2, dim=-1)[0])
            assert torch.equal(together[row : row + 1], alone)

    @QUICK
    @given(st.integers(1, 40), st.integers(0, 400))
    def test_rotating_pairs_equals_rotating_halves(self, count: int, start: int) -> None:
        """Within fp32 rounding, after the heads' channels are put back in order."""
        heads = random_rows(count, 3, DIM, dtype=torch.float32)
        speeds = 1.0 / 10_000 ** (torch.arange(0, DIM, 2) / DIM)
        positions = torch.arange(start, start + count)
        angles = torch.cat([torch.outer(positions.float(), speeds)] * 2, dim=-1)[:, None]
        expected = reference.rotate_half(heads, angles.cos(), angles.sin())
        swap = interleave_pairs(torch.arange(DIM), 1)
        found = rotate_pairs(heads[..., swap], RotaryTable(speeds, 512).at(positions))
        torch.testing.assert_close(found, expected[..., swap], atol=1e-5, rtol=0)


class TestInt8:
    @QUICK
    @given(st.integers(1, 80), st.floats(1e-3, 1e3))
    def test_rounding_is_off_by_half_a_level_at_most(self, count: int, scale: float) -> None:
        x = scale * random_rows(count, 128, dtype=torch.float32)
        values, scales = quantize_rows(x)
        assert values.abs().max() <= 127
        assert torch.all((dequantize_rows(values, scales) - x).abs() <= scales * 0.5001)

    @QUICK
    @given(st.integers(1, 100), st.booleans())
    def test_product_is_that_of_the_rounded_factors_and_rows_are_apart(self, count: int, has_bias: bool) -> None:
        weight = random_rows(96, 128, dtype=torch.float32, seed=5)
        bias = random_rows(1, 96, dtype=torch.float32, seed=6)[0] if has_bias else None
        linear = Int8Linear(weight, bias)
        x = random_rows(count, 128, dtype=torch.float32)
        found = linear(x)
        exact = dequantize_rows(*quantize_rows(x)) @ dequantize_rows(*quantize_rows(weight)).T
        expected = exact if bias is None else exact + bias
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
        assert torch.equal(linear(x[count - 1 :]), found[count - 1 :])

    def test_a_row_of_zeros_stays_zero(self) -> None:
        assert torch.equal(Int8Linear(torch.ones(8, 16))(torch.zeros(2, 16)), torch.zeros(2, 8))
