"""Keeps the controller's share of the leases in a thread of its own, so that a slow tick never costs the leadership.

Losing one stops the acting on its pools at once in this process; what was under way already is stopped by the epoch in each
write.
"""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from controlplane.db import session_scope
from controlplane.errors import Fenced
from controlplane.processes import shards
from controlplane.processes.shards import NOTHING, Share, Terms

log = structlog.get_logger(__name__)

RETRY_S = 2.0  # control-plane design 2.6: 15 s lease, 10 s renew deadline, 2 s retry


class Leadership:
    """`terms` says what this process leads, if anything. Start with `start()`, end with `stop()`."""

    def __init__(
        self, engine: Engine, holder: str, lease_s: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._holder, self._lease_s, self._monotonic = engine, holder, lease_s, monotonic
        self._share = Share(NOTHING, 0)
        self._lost: frozenset[str] = frozenset()
        self._valid_until = 0.0
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def terms(self) -> Terms:
        """Empty as soon as the leases may have run out by our own clock, whatever the database says."""
        if self._monotonic() >= self._valid_until:
            return NOTHING
        terms, lost = self._share.terms, self._lost
        return Terms({name: epoch for name, epoch in terms.epochs.items() if name not in lost}) if lost else terms

    @property
    def is_alive(self) -> bool:
        """Whether somebody still asks for the leases: without, this process would follow for ever."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def lose(self, fenced: Fenced) -> None:
        """After a write was fenced: the epoch that we know is no longer the one in SQL. The other leases stand."""
        self._lost |= {str(fenced.extra.get("lease"))}
        self._wake.set()

    def stop(self) -> None:
        """Hands the leases back, so that another controller need not wait for their end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._valid_until = 0.0
        try:
            with session_scope(self._engine) as session:
                shards.leave(session, self._holder)
        except SQLAlchemyError as error:
            log.warning("lease_not_released", error=str(error))  # they run out by themselves

    def renew(self) -> None:
        """Asks once for its share of the leases, or for more of it."""
        asked = self._monotonic()  # before asking: our view ends no later than the database's
        try:
            with session_scope(self._engine) as session:
                share = shards.share_out(session, holder=self._holder, lease_s=self._lease_s)
        except SQLAlchemyError as error:
            log.warning("lease_not_renewed", error=str(error))
            return
        before = self._share.terms
        self._share, self._lost = share, frozenset()
        self._valid_until = asked + self._lease_s
        if share.terms != before:
            log.info("leading" if share.terms else "following", holder=self._holder, **_told(share.terms))

    def _keep(self) -> None:
        while not self._stopping:
            self.renew()
            has_all = bool(self.terms) and len(self.terms.epochs) >= self._share.quota
            self._wake.wait(self._lease_s / 3 if has_all else min(RETRY_S, self._lease_s / 3))
            self._wake.clear()


def _told(terms: Terms) -> dict[str, int]:
    return {"shards": len(terms.epochs), "epoch": max(terms.epochs.values())} if terms else {"shards": 0}
