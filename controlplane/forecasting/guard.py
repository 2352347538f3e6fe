"""Keeps one method's trouble its own: what raises, hangs or says NaN is out of the race, and the tick goes on.

A method runs in a thread beside the caller and is given a time; one that overruns it is barred for good, since its thread cannot
be ended, and its place is taken by a fresh one.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Overran
from typing import TypeVar

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

    def run(self, name: str, work: Callable[[], T]) -> T:
        """The work's result. Raises CannotForecast when it raised anything, overran, or its method is barred."""
        if name in self.barred:
            raise CannotForecast("it hung before")
        with self._lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="forecast")
            future: Future[T] = self._worker.submit(work)
            try:
                return future.result(timeout=self._limit_s)
            except Overran as error:
                self.barred.add(name)
                self._worker.shutdown(wait=False, cancel_futures=True)
                self._worker = None
                log.error("forecaster_hung", name=name, after_s=self._limit_s)
                raise CannotForecast(f"took longer than {self._limit_s:g} s") from error
            except CannotForecast:
                raise
            except Exception as error:
                if name not in self._told:
                    self._told.add(name)
                    log.warning("forecaster_failed", name=name, reason=f"{type(error).__name__}: {error}")
                raise CannotForecast(f"{type(error).__name__}: {error}") from error


def checked(found: Backtest, ahead: list[float]) -> list[float]:
    """The forecast, none below 0. Raises CannotForecast where it or its loss is no number."""
    if not math.isfinite(found.score) or not all(math.isfinite(value) for value in ahead):
        raise CannotForecast("said something that is no number")
    return [max(0.0, value) for value in ahead]
