"""Bounds the failed sign-ins of one address. Kept in memory: each API process counts for itself, a restart forgets."""

import threading
import time
from collections import deque
from collections.abc import Callable

from controlplane.errors import TooMany


class SignInThrottle:
    """At most `limit` failures within `window_s` for an address; then TooMany until the oldest has passed."""

    def __init__(
        self, limit: int = 10, window_s: float = 60.0, *, max_addresses: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._limit, self._window_s, self._max_addresses = limit, window_s, max_addresses
        self._monotonic = monotonic
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raises TooMany, with `retry_after_s`, once the address has failed too often."""
        now = self._monotonic()
        with self._lock:
            failures = self._recent(address, now)
            if len(failures) < self._limit:
                return
            wait_s = round(failures[0] + self._window_s - now + 0.5)
        raise TooMany(
            f"too many failed sign-ins from {address}: try again in {max(1, wait_s)} s", retry_after_s=max(1, wait_s)
        )

    def note_failure(self, address: str) -> None:
        now = self._monotonic()
        with self._lock:
            if address not in self._failures and len(self._failures) >= self._max_addresses:
                self._failures.pop(next(iter(self._failures)))  # the memory of this is bounded too
            self._recent(address, now).append(now)

    def _recent(self, address: str, now: float) -> deque[float]:
        failures = self._failures.setdefault(address, deque(maxlen=self._limit))
        while failures and failures[0] <= now - self._window_s:
            failures.popleft()
        return failures
