"""Takes one rollout as far as it goes now: read, fetch windows, save, reconcile, write. No network call inside a transaction."""

from datetime import datetime

from sqlalchemy import Engine

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.processes import shards
from controlplane.rollouts import windows
from controlplane.rollouts.actions import Step
from controlplane.rollouts.execute import execute
from controlplane.rollouts.loading import load_snapshot
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.snapshot import RolloutSnapshot
from controlplane.telemetry.collector import Collector

# A step may make the next one possible at once; more in a row than this would be a bug of ours, and waits for the next round.
MAX_STEPS = 6


class Driver:
    """Not thread-safe, as its collector is not."""

    def __init__(self, engine: Engine, clock: Clock, collector: Collector, *, heartbeat_timeout_s: float) -> None:
        self._engine, self._clock, self._collector = engine, clock, collector
        self._timeout_s = heartbeat_timeout_s

    def drive(self, rollout_id: str, epoch: int) -> Step | None:
        """The last step taken. Raises Fenced, Overtaken (try again), PrometheusUnavailable (after the step that did without)."""
        step: Step | None = None
        unavailable: Exception | None = None
        for _ in range(MAX_STEPS):
            now = self._clock.now()
            snapshot = self._read(rollout_id, now)
            if snapshot is None:
                return step
            if unavailable is None:
                try:
                    snapshot = self._with_windows(snapshot, epoch, now)
                except windows.PrometheusUnavailable as error:
                    unavailable = error
            step = reconcile(snapshot, now)
            if step.actions:
                with session_scope(self._engine) as session:
                    execute(session, snapshot, step, epoch=epoch, now=now)
            # What was sent takes longer to come back than a round lasts: the other rollouts come first.
            if step.move is None or snapshot.phase.is_terminal or step.sends:
                break
        if unavailable is not None:
            raise unavailable
        return step

    def _read(self, rollout_id: str, now: datetime) -> RolloutSnapshot | None:
        with session_scope(self._engine, read_only=True) as session:
            return load_snapshot(session, rollout_id, now=now, heartbeat_timeout_s=self._timeout_s)

    def _with_windows(self, snapshot: RolloutSnapshot, epoch: int, now: datetime) -> RolloutSnapshot:
        ends = windows.due(snapshot, now)
        if not ends:
            return snapshot
        found = windows.fetch(snapshot, self._collector, ends)
        with session_scope(self._engine) as session:
            shards.assert_leads(session, snapshot.pool_id, epoch)
            windows.save(session, snapshot.id, found)
        return self._read(snapshot.id, now) or snapshot
