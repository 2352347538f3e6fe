import pytest

from controlplane.forecasting.spikes.intervals import bootstrap, wilson
from controlplane.forecasting.spikes.matching import Verdict


def block(right: int, false: int) -> Verdict:
    return Verdict(right + false, right, right, 0, false, right, right, (), 0.25)


class TestWilson:
    def test_agrees_with_the_published_example(self) -> None:
        # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I: 81 of 263.
        assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)

    def test_stays_within_0_and_1(self) -> None:
        assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
        assert wilson(0, 0) is None

    @pytest.mark.parametrize("trials", range(1, 40))
    def test_holds_the_share_itself(self, trials: int) -> None:
        for successes in (0, trials // 2, trials):
            interval = wilson(successes, trials)
            assert interval is not None
            assert 0.0 <= interval[0] <= successes / trials <= interval[1] <= 1.0


class TestBootstrap:
    def test_is_wider_when_blocks_differ(self) -> None:
        alike = bootstrap([block(1, 1)] * 20, lambda v: v.precision)
        apart = bootstrap([block(2, 0), block(0, 2)] * 10, lambda v: v.precision)
        assert alike == pytest.approx((0.5, 0.5))
        assert apart is not None
        assert apart[0] < 0.35 < 0.65 < apart[1]

    def test_two_blocks_say_nothing(self) -> None:
        assert bootstrap([block(1, 1)] * 2, lambda v: v.precision) is None
