"""How long a fit lasts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from controlplane.forecasting.forecaster import CannotForecast, Forecast, Predictor
from controlplane.forecasting.remembered import Fits, Remembered


class Counting:
    """A method that counts its fits; their number is what it predicts."""

    name = "counting"

    def __init__(self, fails: bool = False) -> None:
        self.fits, self.fails = 0, fails

    def fit(self, series: Sequence[float]) -> Predictor:
        self.fits += 1
        if self.fails:
            raise CannotForecast("never")
        number = float(self.fits)
        return lambda known, steps: [number] * steps


SERIES = [1.0] * 80


def test_a_fit_lasts_for_some_calls() -> None:
    method = Counting()
    remembered = Remembered(method, every=4)
    assert [remembered.fit(SERIES)(SERIES, 1) for _ in range(9)] == [[1.0]] * 4 + [[2.0]] * 4 + [[3.0]]


def test_a_fit_may_be_ended_sooner() -> None:
    method = Counting()
    remembered = Remembered(method, every=4)
    assert remembered.fit(SERIES)(SERIES, 1) == [1.0]
    remembered.forget()
    assert [remembered.fit(SERIES)(SERIES, 1) for _ in range(5)] == [[2.0]] * 4 + [[3.0]]


def test_a_series_that_has_grown_or_shrunk_is_fitted_anew() -> None:
    method = Counting()
    remembered = Remembered(method, every=100)
    for length, fits in ((40, 1), (50, 1), (51, 2), (63, 2), (50, 3), (51, 3)):
        remembered.fit(SERIES[:length])
        assert method.fits == fits


def test_what_could_not_be_fitted_is_not_tried_at_every_call() -> None:
    method = Counting(fails=True)
    remembered = Remembered(method, every=3)
    for _ in range(6):
        with pytest.raises(CannotForecast):
            remembered.fit(SERIES)
    assert method.fits == 2


def test_every_pool_and_metric_has_its_own_and_they_do_not_all_end_at_once() -> None:
    made: list[Counting] = []

    def methods() -> list[Counting]:
        made.append(Counting())
        return made[-1:]

    fits = Fits(methods, every=8)
    for _ in range(8):
        for number in range(40):
            fits.of(f"pool-{number}", "offered_rps")[0].fit(SERIES)
    assert len(made) == 40
    again = [method.fits for method in made]
    assert all(1 <= count <= 2 for count in again)
    assert 40 // 4 < sum(count == 2 for count in again) < 40
    assert fits.of("pool-3", "offered_rps")[0] is fits.of("pool-3", "offered_rps")[0]


def test_pools_that_are_gone_are_forgotten() -> None:
    fits = Fits(lambda: [Counting()])
    kept, gone = fits.of("kept", "m")[0], fits.of("gone", "m")[0]
    fits.forget_all_but({"kept"})
    assert fits.of("kept", "m")[0] is kept
    assert fits.of("gone", "m")[0] is not gone


class TestRace:
    """Four methods at first, then the winner beside last-value until the next race."""

    @staticmethod
    def found(model: str, **scores: float) -> Forecast:
        return Forecast("m", datetime(2026, 1, 1, tzinfo=UTC), 15.0, (), model, scores)

    def names(self, fits: Fits) -> list[str]:
        return [method.name for method in fits.of("p", "m")]

    def raced(self, every: int = 3) -> Fits:
        def methods() -> list[Counting]:
            made = [Counting() for _ in range(3)]
            for method, name in zip(made, ("last_value", "b", "c"), strict=True):
                method.name = name
            return made

        return Fits(methods, every=every)

    def test_the_winner_runs_beside_last_value_until_the_next(self) -> None:
        fits = self.raced()
        everybody = ["last_value", "b", "c"]
        seen = []
        for _ in range(12):
            seen.append(self.names(fits))
            scores = dict.fromkeys(seen[-1], 1.0)
            fits.judged("p", "m", self.found("c", **scores))
        races = [place for place, names in enumerate(seen) if names == everybody]
        assert races[0] == 0
        assert {later - before for before, later in pairwise(races[1:])} == {3}
        assert all(names in (everybody, ["last_value", "c"]) for names in seen)

    def test_scores_of_those_that_did_not_run_are_those_of_the_last_race(self) -> None:
        fits = self.raced(every=8)
        while True:  # up to a tick without a race
            names = self.names(fits)
            given = {"last_value": 3.0, "b": 2.0, "c": 1.0} if len(names) == 3 else {"last_value": 4.0, "c": 5.0}
            found = fits.judged("p", "m", self.found("c", **given))
            if len(names) == 2:
                break
        assert found.scores == {"last_value": 4.0, "b": 2.0, "c": 5.0}

    def test_they_race_on_while_the_level_has_just_shifted(self) -> None:
        fits = self.raced(every=100)
        for _ in range(4):
            assert len(self.names(fits)) == 3
            fits.judged("p", "m", self.found("last_value after a shift", b=1.0, c=2.0))

    def test_one_that_can_no_longer_forecast_has_them_race_again(self) -> None:
        fits = self.raced(every=100)
        while len(self.names(fits)) == 3:
            fits.judged("p", "m", self.found("c", b=1.0, c=0.5))
        fits.judged("p", "m", self.found("last_value", last_value=1.0))
        assert len(self.names(fits)) == 3

    def test_who_has_raced_ahead_of_time_need_not_race_then(self) -> None:
        fits = self.raced(every=4)
        assert not fits.is_due("p", "m"), "a first forecast waits for nobody"
        ahead = 0
        for _ in range(12):
            if fits.is_due("p", "m"):
                assert len(self.names(fits)) == 3
                fits.judged("p", "m", self.found("c", last_value=3.0, b=2.0, c=1.0))
                ahead += 1
            names = self.names(fits)
            fits.judged("p", "m", self.found("c", **dict.fromkeys(names, 1.0)))
            assert len(names) == 2 or not ahead
        assert ahead >= 2
