"""What planning on forecasts has been worth, and when that lets them act."""

import json
import math
from dataclasses import replace

import pytest

from controlplane.forecasting.merit import (
    AT_FIRST,
    READY,
    THREATS_READY,
    Merit,
    Said,
    judged,
    restored,
    said,
    scored,
    stored,
)

PROVEN = Merit(may_act=True, truths=100, cost=10.0, newest_cost=20.0, loss=5.0, newest_loss=9.0)
EXACT, FAR = Said(10.0, 10.0, 10.0), Said(20.0, 10.0, 20.0)


def times(count: int, merit: Merit, forecast: Said, newest: Said, came: float = 10.0) -> Merit:
    for _ in range(count):
        merit = scored(merit, forecast, newest, lasted=came, at_end=came)
    return merit


class TestCost:
    def test_too_little_costs_nine_times_too_much(self) -> None:
        assert Said(10.0, 0.0, 0.0).cost(11.0) == 9.0
        assert Said(11.0, 0.0, 0.0).cost(10.0) == 1.0

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_costs_without_end(self, value: float) -> None:
        assert Said(value, 1.0, 1.0).cost(10.0) == math.inf
        assert Said(1.0, value, 1.0).loss(10.0) == math.inf


class TestGate:
    def test_there_is_no_verdict_before_enough_is_known(self) -> None:
        assert times(READY - 1, Merit(), EXACT, FAR).may_act is AT_FIRST
        assert times(READY, Merit(), EXACT, FAR).may_act
        assert not times(READY, Merit(may_act=True), FAR, EXACT).may_act

    def test_who_is_as_good_as_the_newest_value_has_earned_nothing(self) -> None:
        assert not times(200, Merit(), FAR, FAR).may_act
        assert not times(200, Merit(), EXACT, EXACT).may_act

    def test_who_costs_the_same_and_hits_better_has_earned_it(self) -> None:
        assert times(READY, Merit(), Said(20.0, 10.0, 11.0), FAR).may_act

    def test_who_hits_better_and_costs_more_has_not(self) -> None:
        assert not times(READY, Merit(), Said(9.0, 10.0, 10.0), Said(11.0, 11.0, 11.0)).may_act

    def test_between_earning_and_losing_it_stays_as_it_is(self) -> None:
        between = replace(PROVEN, cost=20.4, newest_cost=20.0, newest_loss=5.0)
        for before in (True, False):
            merit = scored(replace(between, may_act=before), EXACT, EXACT, lasted=10.0, at_end=10.0)
            assert merit.may_act is before

    def test_false_alarms_lose_it_however_cheap_they_are(self) -> None:
        merit = PROVEN
        for _ in range(THREATS_READY - 1):
            merit = judged(merit, right=False)
        assert merit.may_act
        assert not judged(merit, right=False).may_act

    def test_it_comes_back_with_the_precision(self) -> None:
        merit = replace(PROVEN, may_act=False, threats=20.0, right=10.0, threats_seen=THREATS_READY)
        back = []
        for _ in range(60):
            merit = judged(merit, right=True)
            back.append(merit.precision or 0.0)
            assert merit.may_act is (back[-1] >= 0.8)
        assert back[0] < 0.8 < back[-1]

    def test_one_surge_does_not_weigh_for_ever(self) -> None:
        burnt = times(
            1, times(READY, Merit(), EXACT, FAR), Said(1.0, 1.0, 1.0), Said(1000.0, 500.0, 900.0), came=1000.0
        )
        assert not burnt.may_act
        assert times(900, burnt, EXACT, FAR).may_act


class TestKept:
    def test_what_is_stored_is_restored_to_the_last_bit(self) -> None:
        merit = judged(times(37, Merit(), Said(10.1, 9.7, 12.3), FAR), right=True)
        assert restored(json.loads(json.dumps(stored(merit)))) == merit

    @pytest.mark.parametrize(
        "row", [{"cost": "dear"}, stored(PROVEN) | {"cost": math.nan}, stored(PROVEN) | {"newest_loss": -1.0}]
    )
    def test_nonsense_is_refused(self, row: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r".+"):
            restored(row)


class TestSaid:
    def test_tells_what_is_missing_what_it_cost_and_how_often_it_was_right(self) -> None:
        assert said(Merit(truths=3)) == f"Of {READY} forecasts whose truth must be known, 3 are."
        assert "cost 0.50 times" in said(PROVEN)
        assert "of 4 threats that only they saw 75% were right" in said(
            replace(PROVEN, threats=4.0, right=3.0, threats_seen=4)
        )
        assert "nothing to win" in said(replace(PROVEN, newest_cost=0.0))
