"""A method's trouble is its own: the race goes on without it."""

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import pytest

from controlplane.forecasting.backtest import backtest
from controlplane.forecasting.forecaster import CannotForecast, Predictor
from controlplane.forecasting.guard import Guard, checked
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.selection import select_forecast
from controlplane.forecasting.series import Series

VALUES = tuple(float(10 + i % 7) for i in range(60))
SERIES = Series("offered_rps", datetime(2026, 1, 1, tzinfo=UTC), 15.0, VALUES)


class Broken:
    """Fits, and then says what it is told to."""

    name = "broken"

    def __init__(self, said: float | Exception, *, only_ahead: bool = False) -> None:
        self._said, self._only_ahead = said, only_ahead

    def fit(self, series: Sequence[float]) -> Predictor:
        def predict(known: Sequence[float], steps: int) -> list[float]:
            if isinstance(self._said, Exception):
                raise self._said
            if self._only_ahead and len(known) < len(VALUES):
                return [known[-1]] * steps
            return [self._said] * steps

        return predict


class Hangs:
    name = "hangs"

    def __init__(self) -> None:
        self.calls, self.released = 0, threading.Event()

    def fit(self, series: Sequence[float]) -> Predictor:
        self.calls += 1
        self.released.wait()
        return LastValue().fit(series)


@pytest.mark.parametrize("guard", [None, Guard()])
@pytest.mark.parametrize(
    "said", [float("nan"), float("inf"), RuntimeError("no"), ZeroDivisionError(), MemoryError(), IndexError()], ids=repr
)
def test_what_raises_or_says_no_number_has_no_score(said: float | Exception, guard: Guard | None) -> None:
    found = select_forecast(SERIES, 4, [Broken(said), LastValue()], guard)
    assert found.model == "last_value" and set(found.scores) == {"last_value"}


def test_one_that_is_good_in_the_past_and_says_nan_now_does_not_speak() -> None:
    found = select_forecast(SERIES, 4, [Broken(float("nan"), only_ahead=True), LastValue()])
    assert set(found.scores) == {"last_value"}


def test_one_that_hangs_is_left_and_not_asked_again() -> None:
    guard, hangs = Guard(limit_s=0.02), Hangs()
    try:
        for _ in range(3):
            found = select_forecast(SERIES, 4, [hangs, LastValue()], guard)
            assert found.model == "last_value" and set(found.scores) == {"last_value"}
        assert hangs.calls == 1 and guard.barred == {"hangs"}
    finally:
        hangs.released.set()


def test_a_forecast_below_zero_is_cut_off() -> None:
    found = backtest(Broken(-5.0), VALUES, 4)
    assert checked(found, [-5.0, 3.0]) == [0.0, 3.0]


def test_what_it_guards_may_say_that_it_cannot() -> None:
    def work() -> int:
        raise CannotForecast("too short")

    assert Guard().run([("any", work), ("other", lambda: 3)]) == {"other": 3}


def test_those_behind_one_that_hangs_have_their_turn_and_it_goes_on_with_none_of_them() -> None:
    guard, released = Guard(limit_s=0.5), threading.Event()
    done: list[str] = []
    at_work: list[threading.Thread] = []

    def hangs() -> int:
        at_work.append(threading.current_thread())
        released.wait()
        return 2

    def last() -> int:
        done.append("last")
        return 3

    works = [("first", lambda: 1), ("hangs", hangs), ("last", last)]
    try:
        assert guard.run(works) == {"first": 1, "last": 3}
    finally:
        released.set()
    at_work[0].join(30)
    assert not at_work[0].is_alive()
    assert done == ["last"] and guard.barred == {"hangs"}


def test_each_has_the_whole_time_for_itself() -> None:
    def slow(number: int) -> int:
        time.sleep(0.75)
        return number

    guard = Guard(limit_s=2.0)
    works = [(f"slow-{number}", partial(slow, number)) for number in range(3)]
    assert guard.run(works) == {f"slow-{number}": number for number in range(3)}
    assert not guard.barred
