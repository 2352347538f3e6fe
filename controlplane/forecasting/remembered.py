"""Fits that last: a method's fit of one series is kept for some calls, since fitting costs ten times what predicting does."""

from collections.abc import Callable, Sequence
from zlib import crc32

from controlplane.forecasting.forecaster import CannotForecast, Forecaster, Predictor

# Two minutes of windows of 15 s. The predictor still runs over the newest windows; only its weights are of then.
REFIT_EVERY = 8
# A series that has grown by so much, or shrunk at all, is another one.
_GROWN = 1.25


class Remembered:
    """`inner`, fitted anew at every `every`-th call at the latest. For one series: its calls come in the order of time.

    first_after: calls after which the first fit is replaced, so that many series do not all fit in the same call.
    """

    def __init__(self, inner: Forecaster, *, every: int = REFIT_EVERY, first_after: int | None = None) -> None:
        self._inner, self._every = inner, every
        self._left = 0
        self._next = every if first_after is None else max(1, first_after)
        self._length = 0
        self._found: Predictor | CannotForecast = CannotForecast("not fitted yet")

    @property
    def name(self) -> str:
        return self._inner.name

    def fit(self, series: Sequence[float]) -> Predictor:
        """The last fit while it lasts, also when it was that there is none. Raises CannotForecast."""
        if self._left == 0 or not self._length <= len(series) <= _GROWN * self._length:
            try:
                self._found = self._inner.fit(series)
            except CannotForecast as error:
                self._found = error
            self._length, self._left, self._next = len(series), self._next, self._every
        self._left -= 1
        if isinstance(self._found, CannotForecast):
            raise self._found
        return self._found


class Fits:
    """The methods of every (pool, metric), each with its own memory. Not thread-safe."""

    def __init__(self, methods: Callable[[], Sequence[Forecaster]], *, every: int = REFIT_EVERY) -> None:
        self._methods, self._every = methods, every
        self._of: dict[tuple[str, str], tuple[Forecaster, ...]] = {}

    def of(self, pool_id: str, metric: str) -> Sequence[Forecaster]:
        key = (pool_id, metric)
        if key not in self._of:
            turn = 1 + crc32("/".join(key).encode()) % self._every
            self._of[key] = tuple(Remembered(method, every=self._every, first_after=turn) for method in self._methods())
        return self._of[key]

    def forget_all_but(self, pool_ids: set[str]) -> None:
        """Of pools that are gone."""
        for key in [key for key in self._of if key[0] not in pool_ids]:
            del self._of[key]
