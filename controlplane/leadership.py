"""Keeps the controller's lease in a thread of its own, so that a slow tick never costs the leadership.

Losing it stops the acting at once in this process; what was under way already is stopped by the epoch in each write.
"""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from controlplane.db import session_scope
from controlplane.processes import lease

log = structlog.get_logger(__name__)

RETRY_S = 2.0  # control-plane design 2.6: 15 s lease, 10 s renew deadline, 2 s retry


class Leadership:
    """`epoch` is the term of this process, None while it does not lead. Start with `start()`, end with `stop()`."""

    def __init__(
        self, engine: Engine, holder: str, lease_s: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._holder, self._lease_s, self._monotonic = engine, holder, lease_s, monotonic
        self._epoch: int | None = None
        self._valid_until = 0.0
        self._wake, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def epoch(self) -> int | None:
        """None as soon as the lease may have run out by our own clock, whatever the database says."""
        return self._epoch if self._monotonic() < self._valid_until else None

    @property
    def is_alive(self) -> bool:
        """Whether somebody still asks for the lease: without, this process would follow for ever."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def check_now(self) -> None:
        """After a write was fenced: the epoch that we know is no longer the one in SQL."""
        self._valid_until = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Hands the lease back, so that another controller need not wait for its end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._valid_until = 0.0
        try:
            with session_scope(self._engine) as session:
                lease.release(session, name=lease.CONTROLLER, holder=self._holder)
        except SQLAlchemyError as error:
            log.warning("lease_not_released", error=str(error))  # it runs out by itself

    def renew(self) -> None:
        """Asks once for the lease, or for more of it."""
        asked = self._monotonic()  # before asking: our view ends no later than the database's
        try:
            with session_scope(self._engine) as session:
                held = lease.acquire_or_renew(
                    session, name=lease.CONTROLLER, holder=self._holder, lease_s=self._lease_s
                )
        except SQLAlchemyError as error:
            log.warning("lease_not_renewed", error=str(error))
            return
        before = self._epoch
        self._epoch = None if held is None else held.epoch
        self._valid_until = 0.0 if held is None else asked + self._lease_s
        if self._epoch != before:
            log.info("leading" if held else "following", epoch=self._epoch, holder=self._holder)

    def _keep(self) -> None:
        while not self._stopping:
            self.renew()
            self._wake.wait(self._lease_s / 3 if self.epoch is not None else min(RETRY_S, self._lease_s / 3))
            self._wake.clear()
