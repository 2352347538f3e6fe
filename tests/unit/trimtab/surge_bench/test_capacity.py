"""Objectives, capacities and loads follow from closed loops by rule."""

import pytest

from inference_node.contract.settings import Precision
from trimtab.errors import CommandError
from trimtab.surge_bench.answer import Ending, Objectives, Outcome
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.capacity import (
    Demand,
    Loop,
    capacity_rps,
    fastest_of,
    keepers,
    loop_of,
    near_ties,
    objectives_of,
    quantile_objective_s,
)
from trimtab.surge_bench.client import LEAD_S
from trimtab.surge_bench.level import Level

BF16, INT8, INT4 = (Level(precision) for precision in (Precision.BF16, Precision.INT8, Precision.INT4))
LOSSES = {"bf16": 0.0, "int8": 0.002, "int4": 0.06}


def _loop(clients: int, rate_rps: float, gap_s: float, ttft_s: float = 0.1, failed: int = 0) -> Loop:
    return Loop(clients, rate_rps, gap_s, ttft_s, 2 * ttft_s, 10, failed)


LOOPS = {
    BF16: [_loop(1, 1.0, 0.020), _loop(8, 2.0, 0.080)],
    INT8: [_loop(1, 2.0, 0.010, 0.08), _loop(8, 5.0, 0.030)],
    INT4: [_loop(1, 3.0, 0.008), _loop(8, 9.0, 0.019)],
}


class TestObjectives:
    def test_twice_the_gap_and_five_times_the_wait_of_the_best_level_within_the_budget(self) -> None:
        budget = Budget.of(fastest_of(LOOPS), LOSSES)
        kept = keepers(LOOPS, LOSSES, budget)
        assert (budget.fastest, kept) == (INT4, [BF16, INT8])
        goal = objectives_of(LOOPS, kept)
        assert (goal.itl_s, goal.ttft_s) == pytest.approx((0.020, 0.4))

    def test_levels_above_the_budget_do_not_set_them(self) -> None:
        assert objectives_of(LOOPS, [BF16]).itl_s == pytest.approx(0.040)


class TestCapacity:
    GOAL = Objectives(ttft_s=0.5, itl_s=0.020)

    def test_the_highest_rate_that_keeps_both(self) -> None:
        assert [capacity_rps(LOOPS[level], self.GOAL) for level in (BF16, INT8, INT4)] == [1.0, 2.0, 9.0]

    def test_waiting_counts_as_its_95_percent_quantile(self) -> None:
        assert capacity_rps([_loop(1, 4.0, 0.01, ttft_s=0.3)], self.GOAL) == 0

    def test_the_quantile_of_gaps_may_be_as_many_times_their_mean_as_in_the_fullest_loop_that_keeps_both(self) -> None:
        calm, full, beyond = (
            Loop(clients, float(clients), gap_s, 0.1, 0.2, 10, 0, gap_p95_s)
            for clients, gap_s, gap_p95_s in ((1, 0.005, 0.006), (4, 0.010, 0.035), (8, 0.030, 0.300))
        )
        assert quantile_objective_s([calm, full, beyond], self.GOAL) == pytest.approx(3.5 * 0.020)
        assert quantile_objective_s([beyond], self.GOAL) == self.GOAL.itl_s
        assert quantile_objective_s([Loop(1, 1.0, 0.01, 0.1, 0.2, 10, 0)], self.GOAL) == self.GOAL.itl_s

    def test_a_loop_with_failures_carries_nothing(self) -> None:
        assert capacity_rps([_loop(1, 4.0, 0.01, failed=1)], self.GOAL) == 0

    def test_near_ties_are_those_that_would_set_another_budget(self) -> None:
        loops = {INT8: [_loop(8, 8.5, 0.02)], INT4: [_loop(8, 9.0, 0.02)], BF16: [_loop(8, 2.0, 0.08)]}
        assert near_ties(loops, LOSSES) == [INT8]
        assert near_ties(LOOPS, LOSSES) == []


class TestDemand:
    def test_calm_is_half_and_the_surge_half_way_as_a_ratio(self) -> None:
        demand = Demand.of({BF16: 1.0, INT8: 2.0, INT4: 8.0}, [BF16, INT8], [BF16, INT8, INT4], None, None)
        assert (demand.best, demand.note) == (INT8, None)
        assert (demand.rates.calm_rps, demand.rates.surge_rps) == pytest.approx((1.0, 4.0))

    def test_where_faster_levels_win_next_to_nothing_it_is_said(self) -> None:
        demand = Demand.of({INT8: 2.0, INT4: 2.1}, [INT8], [INT8, INT4], None, None)
        assert demand.rates.surge_rps == pytest.approx(2.3)
        assert "1.05 times" in (demand.note or "")

    def test_multiples_that_were_given_stand(self) -> None:
        demand = Demand.of({INT8: 2.0, INT4: 2.0}, [INT8], [INT8, INT4], 0.25, 3.0)
        assert (demand.rates.calm_rps, demand.rates.surge_rps, demand.note) == (0.5, 6.0, None)

    def test_objectives_that_nothing_keeps_are_an_error_that_says_what_to_do(self) -> None:
        with pytest.raises(CommandError, match="--ttft-slo-s"):
            Demand.of({BF16: 0.0, INT4: 2.0}, [BF16], [BF16, INT4], None, None)


class TestLoopOf:
    def test_the_rate_counts_tokens_within_the_window(self) -> None:
        """An answer of 20 tokens in steps of 0.1 s, of which 11 come before the window begins, and one right after it began."""
        answers = [
            Outcome(0.0, Ending.ANSWERED, tokens=20, first_s=LEAD_S - 1, last_s=LEAD_S + 0.9),
            Outcome(LEAD_S + 1, Ending.ANSWERED, tokens=20, first_s=LEAD_S + 1.5, last_s=LEAD_S + 3.4),
        ]
        loop = loop_of(answers, 1, 4.0, answer_tokens=20)
        assert loop.rate_rps == pytest.approx((9 + 20) / 4 / 20)
        assert (loop.gap_s, loop.ttft_s, loop.requests, loop.failed) == pytest.approx((0.1, 0.5, 2, 0))

    def test_no_answer_is_an_error_with_its_cause(self) -> None:
        with pytest.raises(CommandError, match="no end within 60 s"):
            loop_of([Outcome(0.0, Ending.FAILED, detail="no end within 60 s")], 4, 4.0, 20)
