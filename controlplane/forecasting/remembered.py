"""Fits that last: a method's fit of one series is kept for some calls, since fitting costs ten times what predicting does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from zlib import crc32

from controlplane.forecasting.forecaster import CannotForecast, Forecast, Forecaster, Predictor
from controlplane.forecasting.last_value import LastValue

# Two minutes of windows of 15 s. The predictor still runs over the newest windows; only its weights are of then.
REFIT_EVERY = 8
# A series that has grown by so much, or shrunk at all, is another one.
_GROWN = 1.25


class Remembered:
    """`inner`, fitted anew at every `every`-th call at the latest. For one series: its calls come in the order of time."""

    def __init__(self, inner: Forecaster, *, every: int = REFIT_EVERY) -> None:
        self._inner, self._every = inner, every
        self._left = 0
        self._length = 0
        self._found: Predictor | CannotForecast = CannotForecast("not fitted yet")

    @property
    def name(self) -> str:
        return self._inner.name

    def forget(self) -> None:
        """The next call fits anew."""
        self._left = 0

    def fit(self, series: Sequence[float]) -> Predictor:
        """The last fit while it lasts, also when it was that there is none. Raises CannotForecast."""
        if self._left == 0 or not self._length <= len(series) <= _GROWN * self._length:
            try:
                self._found = self._inner.fit(series)
            except CannotForecast as error:
                self._found = error
            self._length, self._left = len(series), self._every
        self._left -= 1
        if isinstance(self._found, CannotForecast):
            raise self._found
        return self._found


class Fits:
    """The methods of every (pool, metric), each with its own memory. Not thread-safe.

    All race as often as they are fitted; in between the winner runs beside last-value, which every choice is held against.
    """

    def __init__(self, methods: Callable[[], Sequence[Forecaster]], *, every: int = REFIT_EVERY) -> None:
        self._methods, self._every = methods, every
        self._of: dict[tuple[str, str], _Race] = {}

    def of(self, pool_id: str, metric: str) -> Sequence[Forecaster]:
        """Those to race now."""
        key = (pool_id, metric)
        if key not in self._of:
            # The first race is followed by the second at a time of its own, so that not all pools race in the same tick.
            turn = 1 + crc32("/".join(key).encode()) % self._every
            methods = tuple(Remembered(method, every=self._every) for method in self._methods())
            self._of[key] = _Race(methods, self._every, turn)
        return self._of[key].entered()

    def is_due(self, pool_id: str, metric: str) -> bool:
        """Whether all race the next time. Not of a series that never raced: its first forecast waits for nobody."""
        race = self._of.get((pool_id, metric))
        return race is not None and race.is_due

    def judged(self, pool_id: str, metric: str, found: Forecast) -> Forecast:
        """What came of those that `of` gave, with the scores that the others had in the last race."""
        return self._of[pool_id, metric].judged(found)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        """Of pools that are gone."""
        for key in [key for key in self._of if key[0] not in pool_ids]:
            del self._of[key]


class _Race:
    def __init__(self, methods: Sequence[Remembered], every: int, first_after: int) -> None:
        self._methods, self._every = methods, every
        self._left, self._next = 0, first_after
        self._few: Sequence[Remembered] = methods
        self._scores: Mapping[str, float] = {}

    @property
    def is_due(self) -> bool:
        return self._left == 0

    def entered(self) -> Sequence[Remembered]:
        if self._left == 0:
            self._few = self._methods
            self._left, self._next = self._next, self._every
            for method in self._methods:
                method.forget()
        self._left -= 1
        return self._few

    def judged(self, found: Forecast) -> Forecast:
        if self._few is self._methods:
            self._scores = found.scores
            # A winner that did not speak, since the level has just shifted, has not won: they race on.
            if found.model in found.scores:
                wanted = {found.model, LastValue().name}
                self._few = tuple(method for method in self._methods if method.name in wanted)
        elif len(found.scores) < len(self._few):
            self._left = 0  # one of them can no longer forecast
        return replace(found, scores={**self._scores, **found.scores})
