import numpy as np
import pytest

from controlplane.forecasting.spikes import trailing


class TestAgainstTheDefinition:
    @pytest.mark.parametrize("width", [1, 2, 5, 17])
    def test_mean_std_maximum_and_minimum(self, width: int) -> None:
        values = np.random.default_rng(width).normal(5, 2, 60)
        for i in range(60):
            seen = values[max(0, i - width + 1) : i + 1]
            assert trailing.mean(values, width)[i] == pytest.approx(seen.mean())
            assert trailing.std(values, width)[i] == pytest.approx(seen.std(), abs=1e-6)
            assert trailing.maximum(values, width)[i] == seen.max()
            assert trailing.minimum(values, width)[i] == seen.min()

    @pytest.mark.parametrize("width", [3, 8, 20])
    def test_slope_is_that_of_least_squares(self, width: int) -> None:
        values = np.random.default_rng(width).normal(5, 2, 60)
        for i in range(width - 1, 60):
            fitted = np.polyfit(np.arange(width), values[i - width + 1 : i + 1], 1)[0]
            assert trailing.slope(values, width)[i] == pytest.approx(fitted, abs=1e-9)


class TestWhatIsNotMeasured:
    def test_is_left_out_of_means(self) -> None:
        assert trailing.mean(np.array([1.0, np.nan, 3.0]), 3).tolist() == [1.0, 1.0, 2.0]

    def test_nothing_measured_gives_nothing(self) -> None:
        assert np.isnan(trailing.mean(np.array([np.nan, np.nan]), 2)).all()
        assert np.isnan(trailing.maximum(np.array([np.nan, np.nan]), 2)).all()

    def test_smoothing_holds_the_level(self) -> None:
        assert trailing.smoothed(np.array([2.0, np.nan, np.nan]), 1.0).tolist() == [2.0, 2.0, 2.0]


class TestSince:
    def test_counts_from_the_last_time_up_to_the_limit(self) -> None:
        flags = np.array([False, True, False, False, True, False])
        assert trailing.since(flags, 3).tolist() == [3, 0, 1, 2, 0, 1]
