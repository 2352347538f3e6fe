"""The load has the promised shape, and its rates lie where the tuner is needed and can help."""

import random

from hypothesis import given
from hypothesis import strategies as st

from trimtab.traffic.schedule import Rates, Surges, choose_rates, next_arrival

SURGES = Surges(first_s=60, ramp_s=20, plateau_s=60, decline_s=20, period_s=200)


class TestLevel:
    def test_is_calm_until_the_first_surge(self) -> None:
        assert SURGES.level(0) == SURGES.level(59.9) == 0

    def test_ramps_holds_and_declines(self) -> None:
        assert [SURGES.level(at) for at in (60, 70, 80, 139, 150, 160, 199)] == [0, 0.5, 1, 1, 0.5, 0, 0]

    def test_comes_again(self) -> None:
        assert SURGES.level(70) == SURGES.level(270) == 0.5

    @given(st.floats(0, 1e5))
    def test_stays_between_calm_and_surge(self, at_s: float) -> None:
        assert 0 <= SURGES.level(at_s) <= 1


class TestNextArrival:
    def test_arrivals_follow_the_rate(self) -> None:
        source, rates = random.Random(1), Rates(calm_rps=1, surge_rps=5)
        calm = surge = 0
        at_s = 0.0
        while at_s < 20_000:
            at_s = next_arrival(at_s, rates, SURGES, source)
            level = SURGES.level(at_s)
            calm += level == 0
            surge += level == 1
        # 100 periods of 200 s: about 100 s calm at 1/s and 60 s of surge at 5/s each; bounds are 6 standard deviations wide.
        assert abs(calm - 10_000) < 600
        assert abs(surge - 29_900) < 1_100

    def test_time_only_moves_on(self) -> None:
        source, at_s = random.Random(2), 0.0
        for _ in range(100):
            later = next_arrival(at_s, Rates(1, 2), SURGES, source)
            assert later > at_s
            at_s = later


class TestChooseRates:
    @given(st.floats(0.01, 1000), st.floats(1.5, 16))
    def test_a_surge_overloads_the_small_batch_and_not_the_large_one(self, small_rps: float, gain: float) -> None:
        rates = choose_rates(small_rps, gain)
        assert rates.calm_rps < 0.5 * small_rps
        assert small_rps < rates.surge_rps < gain * small_rps
