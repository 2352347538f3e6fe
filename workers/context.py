"""What a task works with: settings, clock, a database engine of its own process."""

import ctypes
import os
import signal
import sys
from datetime import datetime
from functools import cached_property
from ssl import SSLContext

import httpx2
from sqlalchemy import Engine

from controlplane.clock import Clock, SystemClock
from controlplane.db import engine_of
from controlplane.settings import ControlPlaneSettings

_PR_SET_PDEATHSIG = 1


class WorkerContext:
    """One per worker, inherited by the processes that it forks; each makes its own engine at first use."""

    def __init__(self, settings: ControlPlaneSettings, *, name: str, clock: Clock | None = None) -> None:
        self.settings = settings
        self.name = name
        self.clock = clock or SystemClock()
        self.away: dict[str, datetime] = {}  # addresses that did not answer, and until when they are not asked again
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        """This process's engine. One that came over in a fork is kept untouched: closing it would close the parent's files."""
        pid = os.getpid()
        if pid not in self._engines:
            self._engines[pid] = engine_of(self.settings)
        return self._engines[pid]

    @cached_property
    def tls(self) -> SSLContext:
        """Whom a node at an https address is trusted by; read once, since that takes longer than a push."""
        return httpx2.create_ssl_context(trust_env=False)


def die_with_parent() -> None:
    """Ends this process when its parent is gone, also when that was killed (prctl(2), PR_SET_PDEATHSIG; Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
