"""Keeps the spike model fresh: starts a training process now and then, ends one that hangs, and never waits for either."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine, func, select

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.policy import Policy
from controlplane.fleets import service as fleets
from controlplane.forecasting.models import SpikeModelRecord, SpikeRecord
from controlplane.forecasting.training_task import MIN_SPIKES, PAST, PoolTask, Task
from controlplane.foresight import full_rows
from controlplane.processes.shards import Terms

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=6)
HANGS_AFTER_S = 1800.0
_COMMAND = (sys.executable, "-m", "controlplane.forecasting.trainer")


class SpikeTraining:
    """One training at a time, by the controller that leads the first pool. Not thread-safe."""

    def __init__(
        self, engine: Engine, database_url: str, clock: Clock, *, command: Sequence[str] = _COMMAND,
        hangs_after_s: float = HANGS_AFTER_S, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._engine, self._url, self._clock = engine, database_url, clock
        self._command, self._hangs_after_s, self._monotonic = tuple(command), hangs_after_s, monotonic
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0
        self._last_try: datetime | None = None

    def keep(self, terms: Terms) -> None:
        """Looks after the training under way, or starts one where it is time. Returns at once."""
        if self._process is not None:
            self._look_after(self._process)
            return
        now = self._clock.now()
        if self._last_try is not None and now - self._last_try < EVERY:
            return
        task = self._task(terms, now)
        if task is None:
            return
        self._last_try = now
        self._began = self._monotonic()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdin is not None, "asked for a pipe"
        try:
            # The URL may hold a password: on standard input nobody else sees it.
            self._process.stdin.write(task.to_json())
            self._process.stdin.close()
        except OSError as error:
            log.warning("spike_training_not_begun", reason=str(error))

    def stop(self) -> None:
        """Ends the training under way: nothing of it was saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def _look_after(self, process: subprocess.Popen[str]) -> None:
        code = process.poll()
        if code is None:
            if self._monotonic() - self._began > self._hangs_after_s:
                log.error("spike_training_hung", after_s=self._hangs_after_s)
                self.stop()
            return
        assert process.stdout is not None, "asked for a pipe"
        said = process.stdout.read()
        self._close()
        try:
            outcome = json.loads(said)
        except ValueError:
            log.error("spike_training_failed", code=code)
            return
        log.info("spike_training_ended", version=outcome["version"], reason=outcome["reason"])

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _task(self, terms: Terms, now: datetime) -> Task | None:
        """None where another controller sees to it, the newest model is fresh, or too few spikes were seen."""
        with session_scope(self._engine, read_only=True) as session:
            pools = sorted(fleets.list_pools(session), key=lambda pool: pool.id)
            if not pools or terms.of(pools[0].id) is None:
                return None
            made_at = session.scalar(select(func.max(SpikeModelRecord.made_at)))
            if made_at is not None and now - made_at < EVERY:
                return None
            seen = session.scalar(
                select(func.count()).select_from(SpikeRecord).where(SpikeRecord.onset_at > now - PAST)
            )
            if (seen or 0) < MIN_SPIKES:
                return None
            policies = decisions.current_policies(session)
            wanted = []
            for pool in pools:
                policy, _ = policies.get(pool.id, (Policy(), 0))
                wanted.append(PoolTask(pool.id, policy.slo.ttft_p95_s, full_rows(policy)))
        return Task(self._url, now, tuple(wanted))
