"""Who was let in a moment ago: so that each of a page's twenty reads need not ask SQL who reads.

What the API changes of tokens, sessions and people counts at once in the process that was asked (`forget`); what another
process changed counts within `HOLDS_S`. Kept under the hash of the secret, as in SQL; nobody is kept who was refused.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from fastapi import Depends, Request

from controlplane.accounts.roles import Identity

HOLDS_S = 1.0
_MOST = 10_000
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class LetIn:
    """ends_at: when the token or session is over by itself, None for never."""

    who: Identity
    ends_at: datetime | None


class Known:
    """Safe from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since: dict[str, tuple[float, LetIn]] = {}
        self._forgotten = 0

    def find(self, secret_hash: str, now: datetime) -> Identity | None:
        """Who it is, if that was found out within the last second and still holds."""
        found = self._since.get(secret_hash)
        if found is None:
            return None
        since, let_in = found
        if self._monotonic() - since > HOLDS_S or (let_in.ends_at is not None and let_in.ends_at <= now):
            return None
        return let_in.who

    def before(self) -> int:
        """To be asked before SQL is, and told to `keep`."""
        return self._forgotten

    def keep(self, secret_hash: str, let_in: LetIn, before: int) -> None:
        """Unless something was forgotten since `before`: what SQL said then may be of before the change."""
        with self._lock:
            if before != self._forgotten:
                return
            if len(self._since) >= _MOST:
                self._since.clear()
            self._since[secret_hash] = (self._monotonic(), let_in)

    def forget(self) -> None:
        with self._lock:
            self._forgotten += 1
            self._since.clear()


def known_of(request: Request) -> Known:
    return cast(Known, request.app.state.known)


async def _forgets(request: Request) -> AsyncIterator[None]:
    """Comes to its end after the endpoint's transaction, which begins later, and before the answer is sent."""
    try:
        yield
    finally:
        known_of(request).forget()


async def _forgets_changes(request: Request) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if request.method not in _SAFE:
            known_of(request).forget()


# For routers whose changes are of people, sessions and tokens.
CHANGES_WHO = Depends(_forgets_changes, scope="function")
# For an endpoint that changes them when it is only asked for, as a browser comes back from its identity provider.
CHANGES_WHO_BY_GET = Depends(_forgets, scope="function")
