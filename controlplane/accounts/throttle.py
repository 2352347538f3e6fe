"""Bounds failed sign-ins, and requests by one caller. Kept in memory: each API process counts for itself, a restart forgets."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from controlplane.errors import TooMany


class Failures:
    """At most `limit` within `window_s` for a key; the memory of them is bounded too."""

    def __init__(self, limit: int, window_s: float, max_keys: int, monotonic: Callable[[], float]) -> None:
        self._limit, self._window_s, self._max_keys, self._monotonic = limit, window_s, max_keys, monotonic
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> int | None:
        """Seconds until the key may try again, None for at once."""
        now = self._monotonic()
        with self._lock:
            times = self._recent(key, now)
            if len(times) < self._limit:
                return None
            return max(1, round(times[0] + self._window_s - now + 0.5))

    def note(self, key: str) -> None:
        now = self._monotonic()
        with self._lock:
            if key not in self._times and len(self._times) >= self._max_keys:
                self._times.pop(next(iter(self._times)))
            self._recent(key, now).append(now)

    def _recent(self, key: str, now: float) -> deque[float]:
        times = self._times.setdefault(key, deque(maxlen=self._limit))
        while times and times[0] <= now - self._window_s:
            times.popleft()
        return times


class SignInThrottle:
    """Ten failures a minute for an address. Fifty an hour for a name, from wherever: guessing from many places gets nowhere,
    and keeping somebody out of their account takes persistence (whoever is in stays in)."""

    def __init__(
        self, limit: int = 10, window_s: float = 60.0, *, name_limit: int = 50, name_window_s: float = 3600.0,
        max_addresses: int = 10_000, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._addresses = Failures(limit, window_s, max_addresses, monotonic)
        self._names = Failures(name_limit, name_window_s, max_addresses, monotonic)

    def check(self, address: str, name: str | None = None) -> None:
        """Raises TooMany, with `retry_after_s`, once the address or the name has failed too often."""
        if (wait_s := self._addresses.wait_s(address)) is not None:
            raise TooMany(f"too many failed sign-ins from {address}: try again in {wait_s} s", retry_after_s=wait_s)
        if name is not None and (wait_s := self._names.wait_s(name.strip().casefold())) is not None:
            raise TooMany(f"too many failed sign-ins under this name: try again in {wait_s} s", retry_after_s=wait_s)

    def note_failure(self, address: str, name: str | None = None) -> None:
        self._addresses.note(address)
        if name is not None:
            self._names.note(name.strip().casefold())


class RequestThrottle:
    """A token bucket per caller (GCRA: ITU-T I.371, annex A): `per_s` requests a second, and up to `burst` at once."""

    def __init__(
        self, per_s: float, burst: int, *, max_callers: int = 10_000, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s, self._tolerance_s = 1 / per_s, (burst - 1) / per_s
        self._max_callers, self._monotonic = max_callers, monotonic
        self._due: dict[str, float] = {}  # when the bucket of a caller would be full again
        self._lock = threading.Lock()

    def take(self, caller_id: str, name: str) -> None:
        """Counts one request. Raises TooMany, with `retry_after_s`, when there is none left."""
        with self._lock:
            now = self._monotonic()
            due = max(now, self._due.pop(caller_id, now))
            wait_s = due - now - self._tolerance_s
            if wait_s <= 0:
                due += self._interval_s
            self._due[caller_id] = due  # at the end: the first is whoever has been quiet for longest
            if len(self._due) > self._max_callers:
                self._due.pop(next(iter(self._due)))
        if wait_s > 0:
            raise TooMany(
                f"{name!r} asks more often than {1 / self._interval_s:.0f} times a second: slow down",
                retry_after_s=max(1, math.ceil(wait_s)),
            )
