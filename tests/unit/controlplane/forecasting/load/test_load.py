import numpy as np
import pytest

from controlplane.forecasting.forecaster import CannotForecast
from controlplane.forecasting.load.bands import LEVELS, QuantileTracker, track
from controlplane.forecasting.load.methods import METHODS
from controlplane.forecasting.load.mixture import mix


def coverage(actual: np.ndarray, quantiles: np.ndarray, start: int) -> float:
    return float(((actual >= quantiles[:, 1]) & (actual <= quantiles[:, 3]))[start:].mean())


class TestBands:
    def test_keep_their_coverage_when_errors_grow_fivefold(self) -> None:
        rng = np.random.default_rng(0)
        actual = 100 + rng.normal(size=4000) * np.where(np.arange(4000) < 2000, 1.0, 5.0)
        quantiles = track(actual, np.full(4000, 100.0), 5, 1000)
        assert coverage(actual, quantiles, 1000) == pytest.approx(0.8, abs=0.03)

    def test_lie_in_order_and_not_below_zero(self) -> None:
        tracker = QuantileTracker(errors=np.random.default_rng(1).normal(size=100) * 10)
        for error in (50.0, -50.0, float("nan"), float("inf"), 3.0):
            tracker.feed(error)
        around = tracker.around(1.0)
        assert len(around) == len(LEVELS)
        assert (np.diff(around) >= 0).all()
        assert (around >= 0).all()
        assert np.isfinite(around).all()

    def test_a_band_at_an_origin_knows_no_error_after_it(self) -> None:
        rng = np.random.default_rng(2)
        actual = rng.normal(100, 5, 600)
        spoiled = actual.copy()
        spoiled[400:] += 1000
        one, two = (track(values, np.full(600, 100.0), 5, 100) for values in (actual, spoiled))
        assert np.array_equal(one[100:405], two[100:405])

    def test_without_any_known_error_the_band_is_not_empty(self) -> None:
        quantiles = track(np.random.default_rng(3).normal(100, 5, 40), np.full(40, np.nan), 15, 20)
        quantiles = track(
            np.random.default_rng(3).normal(100, 5, 40), np.where(np.arange(40) < 20, np.nan, 100.0), 15, 20
        )
        assert (quantiles[20:, 3] - quantiles[20:, 1] > 1.0).all()


class TestMethods:
    @pytest.mark.parametrize("name", METHODS)
    def test_say_the_same_whatever_comes_after(self, name: str) -> None:
        rng = np.random.default_rng(4)
        values = 100 + 20 * np.sin(np.arange(3200) / 230) + rng.normal(0, 3, 3200)
        spoiled = values.copy()
        spoiled[3100:] = rng.permutation(spoiled[3100:]) * 2
        one, two = (METHODS[name](series, 3000, (1, 5, 15)) for series in (values, spoiled))
        assert one.shape == (3200, 3)
        assert np.allclose(one[:3100], two[:3100])

    @pytest.mark.parametrize("name", ["damped_holt", "sarimax", "ridge", "stacked", "seasonal_naive"])
    def test_refuse_a_past_that_is_too_short(self, name: str) -> None:
        with pytest.raises(CannotForecast):
            METHODS[name](np.arange(20.0), 10, (1, 5))

    @pytest.mark.parametrize("name", ["damped_holt", "sarimax", "ridge", "stacked"])
    def test_follow_a_wave_better_than_the_newest_value(self, name: str) -> None:
        values = 100 + 40 * np.sin(np.arange(3000) / 40) + np.random.default_rng(5).normal(0, 0.5, 3000)
        ahead = METHODS[name](values, 2000, (5,))[:-5, 0]
        naive = METHODS["naive"](values, 2000, (5,))[:-5, 0]
        assert np.abs(values[5:] - ahead)[2000:].mean() < np.abs(values[5:] - naive)[2000:].mean()


class TestMixture:
    def test_follows_the_better_method_and_notices_when_they_change_places(self) -> None:
        rng = np.random.default_rng(6)
        actual = rng.normal(100, 1, 6000)
        good, bad = actual + rng.normal(0, 1, 6000), actual + rng.normal(0, 10, 6000)
        change = np.arange(6000) < 3000
        made = np.column_stack([np.where(change, bad, good), np.where(change, good, bad)])
        mixed = mix(actual, made, 1, [0.0, 0.1])
        best = np.abs(actual - good)
        for stretch in (slice(500, 3000), slice(4500, 6000)):
            assert np.abs(actual - mixed)[stretch].mean() < 1.3 * best[stretch].mean()

    def test_begins_with_the_newest_value(self) -> None:
        made = np.column_stack([np.full(3, 10.0), np.full(3, 1000.0)])
        assert mix(np.full(3, 10.0), made, 1, [0.0, 0.1])[0] < 40.0

    def test_a_method_without_a_forecast_is_left_out(self) -> None:
        made = np.column_stack([np.full(50, 10.0), np.full(50, np.nan)])
        assert np.allclose(mix(np.full(50, 10.0), made, 1, [0.0, 0.1]), 10.0)
