"""Figures of a run, held against what can be worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.surge_bench.answer import Ending, Objectives, Outcome
from trimtab.surge_bench.load import Shape
from trimtab.surge_bench.score import course, figures, quality_loss, wilson

GOAL = Objectives(ttft_s=0.5, itl_s=0.1)
LOSSES = {"bf16": 0.0, "int4": 0.06}


def _answer(due_s: float, *levels: str, tokens: int = 11, wait_s: float = 0.5) -> Outcome:
    first_s = due_s + wait_s
    return Outcome(due_s, Ending.ANSWERED, 0.0, tokens, first_s, first_s + 0.1 * (tokens - 1) - 1e-9, levels)


class TestWilson:
    def test_as_worked_out_by_hand(self) -> None:
        assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # R. G. Newcombe, 1998, table I

    def test_no_request_says_nothing(self) -> None:
        assert wilson(0, 0) == (0.0, 1.0)

    @given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_it_holds_the_share_and_stays_a_share(self, counts: tuple[int, int]) -> None:
        met, total = counts
        low, high = wilson(met, total)
        assert 0 <= low <= met / total + 1e-12
        assert met / total - 1e-12 <= high <= 1


class TestQualityLoss:
    def test_tokens_count_not_requests(self) -> None:
        outcomes = [_answer(0, "bf16", tokens=30), _answer(1, "int4", tokens=10)]
        assert quality_loss(outcomes, LOSSES) == pytest.approx(0.015)

    def test_a_change_on_the_way_counts_half_each(self) -> None:
        assert quality_loss([_answer(0, "bf16", "int4")], LOSSES) == pytest.approx(0.03)

    def test_what_brought_no_token_loses_none(self) -> None:
        assert quality_loss([_answer(0, "int4"), Outcome(1.0, Ending.REFUSED)], LOSSES) == pytest.approx(0.06)

    def test_a_level_without_a_record_is_not_guessed(self) -> None:
        assert quality_loss([_answer(0, "int8")], LOSSES) is None
        assert quality_loss([_answer(0)], LOSSES) is None
        assert quality_loss([], LOSSES) is None


class TestFigures:
    def test_refused_failed_and_cut_short_have_missed(self) -> None:
        missed = [Outcome(k, ending) for k, ending in enumerate((Ending.REFUSED, Ending.FAILED, Ending.CUT_SHORT))]
        found = figures([_answer(0, "bf16"), *missed], GOAL, LOSSES, 10.0)
        assert (found["slo_attainment"], found["requests"], found["goodput_rps"]) == (0.25, 4, 0.1)
        assert (found["refused"], found["failed"], found["cut_short"]) == (1, 1, 1)
        assert found["ttft_s"]["p95"] == pytest.approx(0.5)

    def test_no_request_at_all_is_no_share(self) -> None:
        found = figures([], GOAL, LOSSES, 10.0)
        assert (found["slo_attainment"], found["quality_loss"], found["gap_ms"]["p50"]) == (None, None, None)


class TestCourse:
    def test_ten_seconds_at_a_time_from_before_the_scored_part(self) -> None:
        outcomes = [_answer(1, "bf16"), _answer(9.8, "bf16", wait_s=0.4), _answer(12, "bf16", wait_s=3)]
        found = course(outcomes, GOAL, Shape(scored_s=15, warm_s=10))
        assert [each["t_s"] for each in found] == [-10, 0, 10]
        assert [each["offered_rps"] for each in found] == [0.2, 0.1, 0]
        assert [each["waiting"] for each in found] == [1, 0, 0]
        assert [each["attainment"] for each in found] == [1.0, 0.0, None]

    @given(st.lists(st.floats(0, 99.9), max_size=40))
    def test_every_request_is_in_it_once(self, times: list[float]) -> None:
        found = course([_answer(at, "bf16") for at in times], GOAL, Shape(scored_s=70, warm_s=30))
        assert sum(10 * each["offered_rps"] for each in found) == pytest.approx(len(times))
