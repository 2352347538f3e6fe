"""How long a fit lasts."""

from collections.abc import Sequence

import pytest

from controlplane.forecasting.forecaster import CannotForecast, Predictor
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


def test_the_first_fit_may_end_sooner() -> None:
    method = Counting()
    remembered = Remembered(method, every=4, first_after=2)
    assert [remembered.fit(SERIES)(SERIES, 1) for _ in range(7)] == [[1.0]] * 2 + [[2.0]] * 4 + [[3.0]]


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
