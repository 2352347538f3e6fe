"""Forecasts that wait for their truth: what is scored, when, and what is not."""

from datetime import timedelta

import pytest

from controlplane.forecasting.merit import READY
from controlplane.forecasting.planning import lasting_rps, planned_rps
from controlplane.forecasting.track_record import SLACK, TrackRecord, newest_forecast
from tests.support.foretold import (
    HORIZON_S,
    STEP_S,
    STEPS,
    T0,
    cries_wolf,
    follow,
    forecast_of,
    knows,
    nonsense,
    swinging,
    window,
)

LOAD = swinging(160, level=10.0, swing=20.0, period=40)


def at(place: int) -> timedelta:
    return timedelta(seconds=STEP_S * (place + 1))


class TestEarning:
    def test_who_knows_what_comes_has_it_as_soon_as_there_is_a_verdict(self) -> None:
        merits = follow(LOAD, knows)
        first = next(place for place, merit in enumerate(merits) if merit.may_act)
        assert first <= READY + STEPS + 20  # while the load rises for the first time the newest value's band is as good
        assert all(merit.may_act for merit in merits[first:])

    def test_who_cries_wolf_loses_it_within_minutes(self) -> None:
        record = TrackRecord()
        assert follow(LOAD[:120], knows, record)[-1].may_act
        kept = [merit.may_act for merit in follow(LOAD, cries_wolf, record, first=120)]
        assert not any(kept[READY:])

    def test_who_says_nothing_that_is_a_number_never_has_it(self) -> None:
        assert not any(merit.may_act for merit in follow(LOAD, nonsense))

    def test_who_repeats_the_newest_value_never_has_it(self) -> None:
        record, told = TrackRecord(), []
        for place, rate in enumerate(LOAD):
            history = [window(past, LOAD[past]) for past in range(max(0, place - 79), place + 1)]
            record.came(history[-1].window_end, rate)
            newest = newest_forecast(history, HORIZON_S)
            assert newest is not None
            record.made(newest, newest, STEP_S)
            told.append(record.merit.may_act)
        assert record.merit.truths > READY
        assert not any(told)


class TestTruth:
    def _made(self) -> TrackRecord:
        record = TrackRecord()
        record.came(T0, 10.0)
        record.made(forecast_of([12.0] * STEPS, T0), forecast_of([10.0] * STEPS, T0), STEP_S)
        return record

    def test_is_known_when_the_horizon_is_over(self) -> None:
        record, scored = self._made(), []
        for place in range(STEPS):
            record.came(T0 + at(place), 12.0)
            scored.append(record.merit.truths)
        assert scored == [0] * (STEPS - 1) + [1]
        assert (record.merit.cost, record.merit.newest_cost) == (0.0, 18.0)

    @pytest.mark.parametrize("measured", [(), (0,), (0, 1, 2)])
    def test_what_was_not_measured_is_not_scored(self, measured: tuple[int, ...]) -> None:
        record = self._made()
        for place in range(2 * STEPS):
            record.came(T0 + at(place), 12.0 if place in measured else None)
        assert record.merit.truths == 0
        assert not record.promises
        assert not record.seen

    def test_nothing_is_kept_longer_than_it_is_waited_for(self) -> None:
        record = TrackRecord()
        follow(LOAD, knows, record)
        assert len(record.promises) <= STEPS
        assert len(record.seen) <= STEPS + 1


class TestFear:
    @pytest.mark.parametrize(("came", "right"), [(19.0, 0.0), (20.0, 1.0)])
    def test_is_judged_by_the_load_that_lasted_until_its_time_is_over(self, came: float, right: float) -> None:
        record = TrackRecord()
        record.feared(T0, 20.0, HORIZON_S)
        over = round((1 + SLACK) * STEPS)
        for place in range(over):
            assert record.merit.threats_seen == 0
            record.came(T0 + at(place), came if place >= over - 3 else 10.0)
        assert (record.merit.threats_seen, record.merit.right) == (1, right)

    def test_one_window_alone_is_chance(self) -> None:
        record = TrackRecord()
        record.feared(T0, 20.0, HORIZON_S)
        for place in range(2 * STEPS):
            record.came(T0 + at(place), 25.0 if place == 1 else 10.0)
        assert (record.merit.threats_seen, record.merit.right) == (1, 0.0)

    def test_a_threat_that_lasts_is_one(self) -> None:
        record = TrackRecord()
        for place in range(round((1 + SLACK) * STEPS)):
            record.feared(T0 + at(place - 1), 20.0, HORIZON_S)
            record.came(T0 + at(place), 10.0)
        assert record.merit.threats_seen == 1

    def test_what_was_not_measured_was_neither_right_nor_wrong(self) -> None:
        record = TrackRecord()
        record.feared(T0, 20.0, HORIZON_S)
        for place in range(2 * STEPS):
            record.came(T0 + at(place), None)
        assert record.merit.threats_seen == 0
        assert record.fear is None


class TestPlanning:
    def test_the_band_counts_up_to_half_again_the_highest_load_in_sight(self) -> None:
        assert planned_rps(forecast_of([10.0], T0, band=100.0), STEP_S, 12.0) == 18.0
        assert planned_rps(forecast_of([10.0], T0, band=0.0), STEP_S, 12.0) == 10.0

    def test_the_highest_three_windows_in_a_row_last(self) -> None:
        assert lasting_rps([1.0, 9.0, 3.0, 3.0, 3.0]) == 5.0
        assert lasting_rps([4.0, 2.0]) == 3.0
        with pytest.raises(ValueError, match="no load"):
            lasting_rps([])

    def test_the_newest_value_is_none_where_the_newest_windows_know_nothing(self) -> None:
        assert newest_forecast([window(0, 5.0), *(window(place, None) for place in range(1, 6))], HORIZON_S) is None
