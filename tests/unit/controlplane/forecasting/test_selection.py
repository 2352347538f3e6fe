"""Series, choice among forecasters, and bands."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.forecasting.forecaster import CannotForecast, Predictor
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.selection import FORECASTERS, select_forecast
from controlplane.forecasting.series import Series, series_of
from controlplane.telemetry.observation import Observation, Quality

END = datetime(2026, 1, 1, tzinfo=UTC)


def series(values: Sequence[float]) -> Series:
    return Series("offered_rps", END, 5.0, tuple(values))


def poisson(rate: float, count: int, seed: int) -> list[float]:
    dice = random.Random(seed)
    return [sum(dice.random() < rate / 100 for _ in range(500)) / 5 for _ in range(count)]


class Raises:
    name = "raises"

    def fit(self, series: Sequence[float]) -> Predictor:
        raise CannotForecast("always")


class AsGood:
    """Predicts what last-value does: a tie."""

    name = "as_good"

    def fit(self, series: Sequence[float]) -> Predictor:
        return LastValue().fit(series)


class TestSelectForecast:
    def test_smooths_a_noisy_level(self) -> None:
        found = select_forecast(series(poisson(1.0, 80, 1)), 6)
        assert found.model != "last_value"
        assert found.points[-1].q50 == pytest.approx(1.0, abs=0.4)

    def test_follows_a_jump_at_once(self) -> None:
        found = select_forecast(series([*poisson(1.0, 80, 1), 4.4]), 6)
        assert found.model == "last_value after a shift"
        assert found.points[0].q50 == 4.4

    def test_last_value_wins_ties(self) -> None:
        found = select_forecast(series([float(i % 3) for i in range(60)]), 3, [AsGood(), LastValue()])
        assert found.model == "last_value"

    def test_who_cannot_forecast_has_no_score(self) -> None:
        found = select_forecast(series(poisson(1.0, 40, 2)), 3, [Raises(), LastValue()])
        assert set(found.scores) == {"last_value"}

    @pytest.mark.parametrize("length", [1, 2, 5, 13, 200])
    def test_any_length_gives_ordered_quantiles_from_now_on(self, length: int) -> None:
        found = select_forecast(series(poisson(2.0, length, length)), 12)
        assert [point.at for point in found.points] == [END + timedelta(seconds=5 * (i + 1)) for i in range(12)]
        assert all(0 <= point.q10 <= point.q50 <= point.q90 for point in found.points)

    def test_the_band_holds_most_of_what_comes(self) -> None:
        """Nominal 80 %; on a steady level at least 70 % must be inside, over many futures."""
        inside = total = 0
        for seed in range(20):
            values = poisson(2.0, 92, seed)
            found = select_forecast(series(values[:80]), 12)
            inside += sum(p.q10 <= v <= p.q90 for p, v in zip(found.points, values[80:], strict=True))
            total += 12
        assert inside / total > 0.7

    def test_names_are_unique(self) -> None:
        assert len({forecaster.name for forecaster in FORECASTERS}) == len(FORECASTERS)


def window(at_s: float, load: float | None) -> Observation:
    return Observation(END + timedelta(seconds=at_s), 5.0, Quality.OK, offered_rps=load)


class TestSeriesOf:
    def test_bridges_a_short_hole_with_the_value_before(self) -> None:
        found = series_of([window(0, 1.0), window(5, None), window(10, 3.0)], "offered_rps")
        assert found is not None
        assert found.values == (1.0, 1.0, 3.0)
        assert found.end == END + timedelta(seconds=10)

    def test_a_long_hole_ends_what_is_learned_from(self) -> None:
        old = [window(5 * i, 9.0) for i in range(10)]
        new = [window(200 + 5 * i, 1.0) for i in range(20)]
        found = series_of([*old, *new], "offered_rps")
        assert found is not None
        assert set(found.values) == {1.0}

    def test_carries_the_last_value_over_a_missing_newest_window(self) -> None:
        found = series_of([window(0, 1.0), window(5, 2.0), window(10, None)], "offered_rps")
        assert found is not None
        assert found.values == (1.0, 2.0, 2.0)

    def test_is_none_when_the_newest_windows_know_nothing(self) -> None:
        assert series_of([window(5 * i, None) for i in range(5)], "offered_rps") is None
        assert series_of([], "offered_rps") is None

    def test_overlapping_windows_step_by_their_distance(self) -> None:
        found = series_of([window(2.5 * i, 1.0) for i in range(4)], "offered_rps")
        assert found is not None
        assert found.step_s == 2.5
