"""Forecasts beside what came, and who made them."""

from datetime import UTC, datetime, timedelta

from controlplane.forecasting.quality import Foreseen
from controlplane.forecasting.track import Named, stints, track
from controlplane.telemetry.observation import Observation, Quality

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def named(made_s: float, model: str = "holt_winters", steps: int = 12) -> Named:
    points = [{"q10": step - 1.0, "q50": float(step), "q90": step + 1.0} for step in range(1, steps + 1)]
    return Named(model, Foreseen(at(made_s), 5.0, points))


def seen(seconds: float, load: float) -> Observation:
    return Observation(at(seconds), 5.0, Quality.OK, offered_rps=load)


class TestTrack:
    def test_each_moment_has_what_was_foreseen_of_it_and_what_came(self) -> None:
        (point,) = track([named(0)], [seen(60, 7.0)], "offered_rps", 60.0)
        assert (point.at, point.q10, point.q50, point.q90, point.came) == (at(60), 11.0, 12.0, 13.0, 7.0)

    def test_what_was_not_measured_is_none(self) -> None:
        (point,) = track([named(0)], [seen(20, 7.0)], "offered_rps", 60.0)
        assert point.came is None

    def test_a_forecast_that_does_not_reach_so_far_is_left_out(self) -> None:
        assert track([named(0, steps=3)], [], "offered_rps", 60.0) == []


class TestStints:
    def test_begin_anew_with_each_change_of_model_and_are_newest_first(self) -> None:
        made = [("a", at(0)), ("a", at(5)), ("b", at(10)), ("a", at(15))]
        assert [(s.model, s.since, s.until, s.forecasts) for s in stints(made)] == [
            ("a", at(15), at(15), 1),
            ("b", at(10), at(10), 1),
            ("a", at(0), at(5), 2),
        ]

    def test_none_of_none(self) -> None:
        assert stints([]) == []
