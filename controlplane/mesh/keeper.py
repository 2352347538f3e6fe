"""The controller's part: which routes are out of date, in files and at the Kubernetes API."""

import time
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.mesh import files, service
from controlplane.mesh.wish import Wish, find_wish
from controlplane.processes.shards import Terms
from controlplane.rollouts.models import Rollout
from controlplane.settings import ControlPlaneSettings

# Pools with a rollout are looked at each round, the others so often: only policies, nodes and hands change their routes.
ALL_S = 10.0


class MeshKeeper:
    """Does nothing unless a folder or a Kubernetes API is configured. Not thread-safe."""

    def __init__(self, engine: Engine, clock: Clock, settings: ControlPlaneSettings) -> None:
        self._engine, self._clock = engine, clock
        self._folder: Path | None = settings.mesh_dir
        self._applies = settings.kubernetes_url is not None
        self._busy: set[str] = set()
        self._all_at = 0.0

    def keep(self, terms: Terms) -> int:
        """One round over the pools that `terms` lead; how many routes were written or owed. Raises Fenced, OSError."""
        if self._folder is None and not self._applies:
            return 0
        now = self._clock.now()
        with session_scope(self._engine, read_only=True) as session:
            wishes = {pool.id: find_wish(session, pool) for pool in self._pools(session, terms)}
            due = service.find_due(session, wishes, now) if self._applies else []
        written = self._write([wish for wish in wishes.values() if wish is not None])
        if not due:
            return written
        with session_scope(self._engine) as session:
            return written + service.owe_routes(session, due, terms=terms, now=now)

    def _pools(self, session: Session, terms: Terms) -> list[Pool]:
        """Those to look at in this round: with a rollout now or a moment ago, and from time to time all."""
        active = set(session.scalars(select(Rollout.active_pool_id).where(Rollout.active_pool_id.is_not(None))))
        wanted = {pool_id for pool_id in active if pool_id is not None} | self._busy
        self._busy = {pool_id for pool_id in active if pool_id is not None}
        if time.monotonic() - self._all_at < ALL_S:
            return [fleets.get_pool(session, pool_id) for pool_id in sorted(wanted) if terms.of(pool_id) is not None]
        self._all_at = time.monotonic()
        return [pool for pool in fleets.list_pools(session) if terms.of(pool.id) is not None]

    def _write(self, wishes: list[Wish]) -> int:
        return 0 if self._folder is None else sum(files.write(self._folder, wish) for wish in wishes)
