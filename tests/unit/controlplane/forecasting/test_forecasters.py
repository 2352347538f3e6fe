"""Each method on series whose next values are known."""

import random

import pytest

from controlplane.forecasting.backtest import backtest, pinball, quantile
from controlplane.forecasting.forecaster import CannotForecast, Forecaster
from controlplane.forecasting.holt_winters import HoltWinters
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.seasonal_naive import SeasonalNaive, find_period
from controlplane.forecasting.selection import FORECASTERS


class TestLastValue:
    def test_repeats_the_newest(self) -> None:
        assert LastValue().fit([1.0])([3.0, 5.0], 2) == [5.0, 5.0]

    def test_averages_the_newest_window(self) -> None:
        assert LastValue(window=2).fit([1.0])([9.0, 3.0, 5.0], 1) == [4.0]

    def test_cannot_speak_of_nothing(self) -> None:
        with pytest.raises(CannotForecast):
            LastValue().fit([])


class TestSeasonalNaive:
    def test_repeats_the_season(self) -> None:
        wave = [float(i % 20 < 5) for i in range(80)]
        predict = SeasonalNaive().fit(wave)
        assert predict(wave, 20) == wave[:20]

    def test_finds_the_length_of_the_season(self) -> None:
        assert find_period([float(i % 24 < 8) for i in range(96)]) == 24

    def test_finds_none_in_noise(self) -> None:
        dice = random.Random(3)
        assert find_period([dice.random() for _ in range(200)]) is None

    def test_finds_none_in_a_constant(self) -> None:
        assert find_period([2.0] * 100) is None


class TestHoltWinters:
    def test_follows_a_trend_and_lets_it_fade(self) -> None:
        line = [10.0 + 2.0 * i for i in range(40)]
        ahead = HoltWinters().fit(line)(line, 5)
        assert ahead == sorted(ahead)
        assert line[-1] + 1.0 < ahead[0] < line[-1] + 2.5
        assert ahead[-1] < line[-1] + 5 * 2.0

    def test_never_goes_below_zero(self) -> None:
        line = [40.0 - 2.0 * i for i in range(20)]
        assert min(HoltWinters().fit(line)(line, 20)) == 0.0

    def test_a_constant_stays(self) -> None:
        assert HoltWinters().fit([3.0] * 20)([3.0] * 20, 3) == pytest.approx([3.0] * 3)

    def test_a_short_series_is_refused(self) -> None:
        with pytest.raises(CannotForecast, match="needs 12 values"):
            HoltWinters().fit([1.0] * 11)


class TestBacktest:
    @pytest.mark.parametrize("forecaster", FORECASTERS, ids=lambda f: f.name)
    def test_the_future_has_no_say_in_the_past(self, forecaster: Forecaster) -> None:
        """Shuffle what comes after t: predictions made at or before t stay the same."""
        dice = random.Random(5)
        past = [5 + (i % 15 < 5) * 4 + dice.random() for i in range(60)]
        one = past + [dice.random() for _ in range(20)]
        two = past + [100 * dice.random() for _ in range(20)]
        fit_on = past[:40]
        predict_one, predict_two = forecaster.fit(fit_on), forecaster.fit(fit_on)
        for origin in range(40, 61):
            assert predict_one(one[:origin], 5) == predict_two(two[:origin], 5)

    def test_a_perfect_forecast_scores_zero(self) -> None:
        assert backtest(LastValue(), [2.0] * 30, 3).score == 0

    def test_the_better_method_has_the_lower_score(self) -> None:
        dice = random.Random(7)
        noisy = [10 + dice.gauss(0, 2) for _ in range(100)]
        assert backtest(LastValue(window=6), noisy, 6).score < backtest(LastValue(), noisy, 6).score

    def test_too_few_origins_are_refused(self) -> None:
        with pytest.raises(CannotForecast, match="origins"):
            backtest(LastValue(), [1.0] * 5, 1)


class TestPinball:
    def test_undershooting_the_upper_quantile_costs_most(self) -> None:
        assert pinball(10, 8, 0.9) == pytest.approx(1.8)
        assert pinball(8, 10, 0.9) == pytest.approx(0.2)


class TestQuantile:
    def test_leans_outward_with_few_values(self) -> None:
        assert quantile([1.0, 2.0, 3.0], 0.9) == 3.0
        assert quantile([1.0, 2.0, 3.0], 0.1) == 1.0

    def test_of_many_is_the_empirical_one(self) -> None:
        assert quantile([float(i) for i in range(1, 100)], 0.9) == 90.0
        assert quantile([float(i) for i in range(1, 100)], 0.1) == 10.0

    def test_of_none_is_zero(self) -> None:
        assert quantile([], 0.9) == 0.0
