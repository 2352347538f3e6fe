import math
import random

import pytest
from scipy import stats

from controlplane.rollouts.statistics import Estimate, difference, fisher_greater, hodges_lehmann


class TestHodgesLehmann:
    def test_of_evenly_spread_values_is_their_middle(self) -> None:
        estimate = hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 0.95)
        assert estimate is not None
        assert estimate.value == 4.0
        assert estimate.low < 4.0 < estimate.high

    def test_shrugs_off_one_wild_value(self) -> None:
        estimate = hodges_lehmann([0.1, -0.1, 0.05, -0.05, 0.0, 0.02, 50.0], 0.9)
        assert estimate is not None
        assert abs(estimate.value) < 0.1

    @pytest.mark.parametrize(("count", "confidence"), [(0, 0.95), (5, 0.95), (6, 0.975)])
    def test_says_when_there_are_too_few_values(self, count: int, confidence: float) -> None:
        assert hodges_lehmann([float(k) for k in range(count)], confidence) is None

    def test_six_values_at_95_percent_give_their_whole_range(self) -> None:
        estimate = hodges_lehmann([3.0, 1.0, 4.0, 1.5, 9.0, 2.6], 0.95)
        assert estimate is not None
        assert (estimate.low, estimate.high) == (1.0, 9.0)

    @pytest.mark.parametrize("count", [8, 12, 20])
    def test_interval_inverts_the_signed_rank_test(self, count: int) -> None:
        """A shift inside the interval is not rejected at that level, one outside is: checked against scipy's exact test."""
        random_ = random.Random(count)
        values = [random_.gauss(1.0, 1.0) for _ in range(count)]
        estimate = hodges_lehmann(values, 0.95)
        assert estimate is not None

        def p_value(shift: float) -> float:
            return float(stats.wilcoxon([v - shift for v in values], method="exact").pvalue)

        assert p_value(estimate.low + 1e-9) > 0.05
        assert p_value(estimate.low - 1e-9) <= 0.05
        assert p_value(estimate.high - 1e-9) > 0.05
        assert p_value(estimate.high + 1e-9) <= 0.05


def test_half_widths_of_a_difference_add_up_in_quadrature() -> None:
    found = difference(Estimate(2.0, 1.7, 2.4), Estimate(1.0, 0.7, 1.4))
    assert found.value == 1.0
    assert found.low == pytest.approx(1.0 - math.hypot(0.3, 0.4))
    assert found.high == pytest.approx(1.0 + math.hypot(0.4, 0.3))


class TestFisher:
    @pytest.mark.parametrize("table", [(3, 40, 0, 120), (0, 10, 5, 10), (8, 160, 0, 160), (1, 1, 0, 1), (5, 5, 5, 5)])
    def test_agrees_with_scipy(self, table: tuple[int, int, int, int]) -> None:
        events, total, events_ref, total_ref = table
        expected = stats.fisher_exact(
            [[events, total - events], [events_ref, total_ref - events_ref]], alternative="greater"
        ).pvalue
        assert fisher_greater(*table) == pytest.approx(expected)

    def test_without_trials_nothing_is_shown(self) -> None:
        assert fisher_greater(0, 0, 5, 10) == 1.0
        assert fisher_greater(3, 10, 0, 0) == 1.0

    def test_refuses_impossible_counts(self) -> None:
        with pytest.raises(ValueError, match="counts out of order"):
            fisher_greater(3, 2, 0, 10)
