"""Keeps one method's trouble its own: what raises, hangs or says NaN is out of the race, and the tick goes on.

A method runs in a thread beside the caller and is given a time; one that overruns it is barred for good, since its thread cannot
be ended, and its place is taken by a fresh one.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overran
from typing import Generic, TypeVar

import structlog

from controlplane.forecasting.backtest import Backtest
from controlplane.forecasting.forecaster import CannotForecast

log = structlog.get_logger(__name__)

LIMIT_S = 1.0
T = TypeVar("T")


class Guard:
    """Thread-safe. `barred`: methods that hung once."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self.barred: set[str] = set()
        self._told: set[str] = set()

    def run(self, works: Sequence[tuple[str, Callable[[], T]]]) -> dict[str, T]:
        """By method, in the order given: what its work brought. One that raised anything, overran or is barred is left out.

        They go over to the other thread together: handing each over by itself takes longer than many of them do.
        """
        found: dict[str, T] = {}
        with self._lock:
            left = [(name, work) for name, work in works if name not in self.barred]
            while left:
                turn = _Turn(left)
                hung_at = self._wait(turn)
                found |= turn.found
                for name, error in turn.failed.items():
                    self._tell(name, error)
                left = [] if hung_at is None else left[hung_at + 1 :]
        return found

    def _wait(self, turn: "_Turn[T]") -> int | None:
        """The place of the work that hung, None when all came to an end."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="forecast")
        future: Future[None] = self._worker.submit(turn.run)
        while True:
            place, began = turn.at
            try:
                future.result(timeout=max(0.0, began + self._limit_s - time.monotonic()))
                return None
            except Overran:
                if turn.at[0] != place:
                    continue  # another one is at work by now
            turn.left = True
            name = turn.works[place][0]
            self.barred.add(name)
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._worker = None
            log.error("forecaster_hung", name=name, after_s=self._limit_s)
            return place

    def _tell(self, name: str, error: Exception) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("forecaster_failed", name=name, reason=f"{type(error).__name__}: {error}")


class _Turn(Generic[T]):
    """Works that one thread does one after another. at: the place of the one at work, and since when by the monotonic clock."""

    def __init__(self, works: Sequence[tuple[str, Callable[[], T]]]) -> None:
        self.works = works
        self.at = (0, time.monotonic())
        self.left = False  # nobody waits any more: what hung is not to go on with the others when it wakes
        self.found: dict[str, T] = {}
        self.failed: dict[str, Exception] = {}

    def run(self) -> None:
        for place, (name, work) in enumerate(self.works):
            if self.left:
                return
            self.at = (place, time.monotonic())
            try:
                brought = work()
            except CannotForecast:
                continue
            except Exception as error:  # noqa: BLE001 (a method's trouble is its own)
                self.failed[name] = error
                continue
            if not self.left:
                self.found[name] = brought


def checked(found: Backtest, ahead: list[float]) -> list[float]:
    """The forecast, none below 0. Raises CannotForecast where it or its loss is no number."""
    if not math.isfinite(found.score) or not all(math.isfinite(value) for value in ahead):
        raise CannotForecast("said something that is no number")
    return [max(0.0, value) for value in ahead]
