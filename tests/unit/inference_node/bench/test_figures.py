"""Summaries of samples."""

import pytest

from inference_node.bench.figures import quantile, spread, summary_ms
from inference_node.bench.prompts import make_prompts


class TestQuantile:
    @pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (0.99, 3.97), (1.0, 4.0)])
    def test_interpolates_between_ranks(self, share: float, value: float) -> None:
        assert quantile([1.0, 2.0, 3.0, 4.0], share) == pytest.approx(value)


class TestSummary:
    def test_is_in_milliseconds_with_its_sample_count(self) -> None:
        assert summary_ms([0.001, 0.003]) == {"mean": 2.0, "p50": 2.0, "p95": 2.9, "p99": 2.98, "n": 2}

    def test_of_nothing_is_none_not_zero(self) -> None:
        assert summary_ms([]) == {"mean": None, "p50": None, "p95": None, "p99": None, "n": 0}


class TestSpread:
    def test_one_repeat_has_no_deviation(self) -> None:
        assert spread([5.0]) == {"values": [5.0], "min": 5.0, "max": 5.0, "stdev": None}


class TestMakePrompts:
    def test_the_same_seed_gives_the_same_prompts(self) -> None:
        assert make_prompts(3, 20, 5, "a") == make_prompts(3, 20, 5, "a") != make_prompts(3, 20, 5, "b")

    def test_share_exactly_the_prefix_asked_for(self) -> None:
        first, second = (prompt.split() for prompt in make_prompts(2, 40, 10, "a"))
        assert len(first) == 40 and first[:10] == second[:10] and first[10:] != second[10:]
