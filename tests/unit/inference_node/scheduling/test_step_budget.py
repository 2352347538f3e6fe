"""How much of a prompt, and how many rows, a latency target leaves room for."""

import random

import pytest

from inference_node.scheduling.step_budget import LEAST_CHUNK, StepBudget
from tests.support.step_clock import KnowsNothing, StepClock

CLOCK = StepClock(fixed_s=0.010, row_s=0.001, prompt_token_s=0.0005)


class TestChunk:
    def test_is_the_longest_that_keeps_decoding_streams_in_time(self) -> None:
        # 10 ms + 8 rows leave 32 ms of 50: 64 tokens.
        assert StepBudget(0.050, CLOCK).chunk(8, 0, 512) == 64
        assert StepBudget(0.049, CLOCK).chunk(8, 0, 512) == 48

    def test_is_not_limited_where_nobody_waits_for_a_token(self) -> None:
        assert StepBudget(0.050, CLOCK).chunk(0, 0, 512) == 512

    def test_never_stops_a_prompt(self) -> None:
        assert StepBudget(0.001, CLOCK).chunk(8, 0, 512) == LEAST_CHUNK
        assert StepBudget(0.001, CLOCK).chunk(8, 0, 5) == 5

    @pytest.mark.parametrize(
        "budget", [StepBudget(0.0, CLOCK), StepBudget(0.05, None), StepBudget(0.05, KnowsNothing())]
    )
    def test_knows_no_limit_without_target_or_knowledge(self, budget: StepBudget) -> None:
        assert budget.chunk(8, 0, 512) == 512


class TestRows:
    def test_is_the_largest_batch_in_time(self) -> None:
        assert StepBudget(0.050, CLOCK).rows(1, 100, 0.0) == 40
        assert StepBudget(0.050, CLOCK).rows(1, 30, 0.0) == 30
        assert StepBudget(0.005, CLOCK).rows(2, 100, 0.0) == 2

    def test_counts_the_context_that_rows_attend_to(self) -> None:
        budget = StepBudget(0.050, StepClock(fixed_s=0.010, row_s=0.0, context_token_s=1e-5))
        assert budget.rows(1, 100, context_per_row=200.0) == 20

    def test_small_changes_do_not_move_it(self) -> None:
        budget = StepBudget(0.050, StepClock(fixed_s=0.010, row_s=0.0, context_token_s=1e-5))
        assert [budget.rows(1, 200, context) for context in (100.0, 101.0, 99.0, 80.0)] == [40, 40, 40, 50]


class TestLearn:
    def test_follows_the_95th_percentile_of_measured_over_predicted(self) -> None:
        source = random.Random(7)
        budget = StepBudget(0.050, CLOCK)
        for _ in range(4000):
            budget.learn(8, 0, 0, 0.018 * source.uniform(0.8, 1.8))
        assert budget.bias == pytest.approx(1.75, rel=0.08)

    def test_one_stall_does_not_throw_it(self) -> None:
        budget = StepBudget(0.050, CLOCK)
        budget.learn(8, 0, 0, 60.0)
        assert budget.bias < 1.03

    def test_has_bounds(self) -> None:
        budget = StepBudget(0.050, CLOCK)
        for _ in range(1000):
            budget.learn(8, 0, 0, 60.0)
        assert budget.bias == 4.0
