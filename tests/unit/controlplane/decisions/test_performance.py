"""The pool model: which way each quantity goes, and where it must agree with what is known."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.decisions.decision import StepTime, Workload
from controlplane.decisions.performance import PoolModel, tails_of, workload_of
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings, Precision

AT = datetime(2026, 1, 1, tzinfo=UTC)
STEP = StepTime(Precision.BF16, base_s=0.03, row_s=0.003, prefill_token_s=0.0008, samples=9, error_ratio=0.0)


def model(batch: int = 4, nodes: int = 2, tokens: int = 512, wait_ms: float = 0.0) -> PoolModel:
    settings = EngineSettings(max_batch_size=batch, max_batched_tokens=tokens, batch_wait_ms=wait_ms)
    return PoolModel(settings, STEP, Workload(40, 50), nodes)


class TestCapacity:
    def test_is_what_full_steps_finish(self) -> None:
        # 4 rows: 50 steps of 30 + 12 ms shared by 4 requests, and 40 tokens of prefill.
        seconds = 50 / 4 * 0.03 + 50 * 0.003 + 40 * 0.0008
        assert model().capacity_rps == pytest.approx(2 / seconds)

    def test_grows_with_batch_and_nodes(self) -> None:
        assert model(4).capacity_rps < model(8).capacity_rps < model(8, nodes=3).capacity_rps

    def test_is_bound_by_prefill_when_the_token_budget_is_small(self) -> None:
        long = Workload(2000, 20)
        small, large = (replace(model(8, tokens=tokens), workload=long) for tokens in (64, 2048))
        assert small.capacity_rps < 0.7 * large.capacity_rps

    def test_faster_steps_serve_more(self) -> None:
        assert replace(model(), step_time_ratio=0.5).capacity_rps == pytest.approx(2 * model().capacity_rps)


class TestLatency:
    def test_rows_fill_with_load_up_to_the_batch(self) -> None:
        rows = [model(8).running_rows(rate) for rate in (0.0, 1.0, 3.0, 50.0)]
        assert rows == sorted(rows)
        assert rows[0] == 0
        assert rows[-1] == 8

    def test_gaps_between_tokens_grow_with_load(self) -> None:
        gaps = [model(16).itl_p95_s(rate) for rate in (0.5, 2.0, 5.0)]
        assert gaps == sorted(gaps)
        assert gaps[0] >= STEP.at(1, 0)

    def test_waiting_begins_near_capacity(self) -> None:
        pool = model(8)
        assert pool.wait_p95_s(0.3 * pool.capacity_rps, 60) == 0
        assert pool.wait_p95_s(0.95 * pool.capacity_rps, 600) > 1

    def test_waiting_needs_time_to_build_up(self) -> None:
        pool = model(8)
        assert pool.wait_p95_s(0.95 * pool.capacity_rps, 5) < pool.wait_p95_s(0.95 * pool.capacity_rps, 600)

    def test_an_idle_engine_gathers_company_first(self) -> None:
        waits = model(wait_ms=20.0).base_ttft_p95_s(0.01) - model().base_ttft_p95_s(0.01)
        assert waits == pytest.approx(0.02, rel=0.1)


def window(**facts: Any) -> Observation:
    return Observation(AT, 5.0, Quality.OK, **facts)


class TestWorkloadOf:
    def test_weighs_windows_by_their_requests(self) -> None:
        few = window(requests=1.0, prompt_tokens_mean=100.0, generation_tokens_mean=10.0)
        many = window(requests=99.0, prompt_tokens_mean=20.0, generation_tokens_mean=50.0)
        found = workload_of([many, few])
        assert found is not None
        assert 45 < found.generation_tokens < 50
        assert 20 < found.prompt_tokens < 25

    def test_prompt_tokens_found_in_the_cache_cost_nothing(self) -> None:
        seen = window(requests=5.0, prompt_tokens_mean=100.0, generation_tokens_mean=10.0, prefix_hit_ratio=0.75)
        found = workload_of([seen])
        assert found is not None
        assert (found.prompt_tokens, found.generation_tokens) == pytest.approx((25.0, 10.0))

    def test_is_none_before_the_first_request(self) -> None:
        assert workload_of([window(requests=0.0)]) is None


class TestTailsOf:
    def test_learns_how_much_heavier_reality_is(self) -> None:
        pool = model()
        real = window(offered_rps=1.0, waiting=0.0, itl_p95_s=1.5 * pool.itl_p95_s(1.0))
        assert tails_of([real] * 5, pool).itl == pytest.approx(1.5)

    def test_windows_with_a_queue_do_not_count(self) -> None:
        queued = window(offered_rps=1.0, waiting=9.0, ttft_p95_s=9.0)
        assert tails_of([queued] * 5, model()).ttft == 1.0

    def test_is_bounded(self) -> None:
        odd = window(offered_rps=1.0, waiting=0.0, ttft_p95_s=99.0)
        assert tails_of([odd] * 5, model()).ttft == 3.0


class TestCurvedSteps:
    """Steps that cost the same up to 8 rows and then 4 ms a row, as where weights are read once for a tile of rows."""

    CURVED = replace(STEP, row_s=0.0, curve=((8, 0.0), (64, 0.224)))

    def curved(self, batch: int) -> PoolModel:
        return replace(model(batch), step=self.CURVED)

    def test_rows_within_a_tile_are_free(self) -> None:
        prefill = 40 * 0.0008
        assert self.curved(8).capacity_rps == pytest.approx(2 / (50 / 8 * 0.03 + prefill))

    def test_rows_beyond_it_cost(self) -> None:
        assert self.curved(16).capacity_rps == pytest.approx(2 / (50 / 16 * (0.03 + 8 * 0.004) + 40 * 0.0008))

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
    def test_running_rows_obey_littles_law(self, share: float) -> None:
        pool = self.curved(32)
        rate = share * pool.capacity_rps
        rows = pool.running_rows(rate)
        step = self.CURVED.at(rows, 0) + rows * 40 / 50 * 0.0008  # with its share of prefill
        assert rows == pytest.approx(rate / 2 * 50 * step)

    def test_running_rows_end_at_the_batch(self) -> None:
        assert self.curved(4).running_rows(1e3) == 4

    def test_a_straight_curve_is_a_row_price(self) -> None:
        straight = replace(STEP, row_s=0.0, curve=((1, 0.003), (4, 0.012), (512, 1.536)))
        for rate in (0.1, 1.0, 3.0, 9.0):
            mine, plain = replace(model(16), step=straight), model(16)
            assert mine.running_rows(rate) == pytest.approx(plain.running_rows(rate))
            assert mine.itl_p95_s(rate) == pytest.approx(plain.itl_p95_s(rate))
