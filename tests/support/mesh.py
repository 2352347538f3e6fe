"""A pool whose policy names a mesh route, its controller's and worker's parts, and time by the second."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.decisions.mesh_policy import MeshPolicy
from controlplane.decisions.policy import Policy
from controlplane.decisions.service import put_policy
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service as fleets
from controlplane.mesh.keeper import MeshKeeper
from controlplane.mesh.models import MeshRoute
from controlplane.processes.shards import Terms
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase
from controlplane.settings import ControlPlaneSettings
from tests.support.rollouts_in_sql import NOW, POLICY, Lab, lab, measure
from workers.context import WorkerContext
from workers.tasks.mesh import apply_route

MESH = MeshPolicy.model_validate(
    {"kind": "istio", "route": "chat", "baseline_service": "chat-old", "canary_service": "chat-new", "port": 80}
)


class SetClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


@dataclass(slots=True)
class MeshLab:
    """`keep()` is a round of the controller, `work()` what the workers do with what is owed by then."""

    engine: Engine
    clock: SetClock
    keeper: MeshKeeper
    context: WorkerContext
    epoch: int
    pool_id: str

    def keep(self) -> int:
        self.keeper._all_at = 0.0  # each round looks at all pools
        return self.keeper.keep(Terms.everywhere(self.epoch))

    def work(self) -> None:
        with session_scope(self.engine, read_only=True) as session:
            due = list(
                session.scalars(select(OutboxItem.id).where(OutboxItem.kind == "mesh", OutboxItem.done_at.is_(None)))
            )
        for item_id in due:
            apply_route(self.context, item_id)

    def settle(self) -> None:
        self.keep()
        self.work()

    def wait(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def set_mesh(self, mesh: MeshPolicy | None) -> None:
        with session_scope(self.engine) as session:
            version = 0 if session.scalar(select(Event.id).where(Event.kind == "policy.changed")) is None else 1
            put_policy(session, self.pool_id, policy(mesh), based_on=version, actor="alice", now=self.clock.at)

    def begin(self) -> str:
        """Id of a rollout under the policy in force."""
        with session_scope(self.engine) as session:
            return self.lab(session).begin(now=self.clock.at, policy=policy(MESH)).id

    def lab(self, session: Session) -> Lab:
        return Lab(session, fleets.get_pool(session, self.pool_id), self.epoch)

    def drive(self, rollout_id: str, *, until: RolloutPhase, obey: bool = True, seconds: int = 300) -> None:
        """Second by second, with the controller's and the workers' part in each."""
        for _ in range(seconds):
            with session_scope(self.engine) as session:
                made, rollout = self.lab(session), session.get_one(Rollout, rollout_id)
                if obey:
                    made.obey(self.clock.at)
                measure(made, rollout, self.clock.at)
                made.step(rollout, self.clock.at)
                arrived = rollout.phase == until
            self.settle()
            if arrived:
                return
            self.wait(1)
        raise AssertionError(f"not at {until} after {seconds} s")

    def ask(self, rollout_id: str, verb: str) -> None:
        with session_scope(self.engine) as session:
            rollout = session.get_one(Rollout, rollout_id)
            rollout.request, rollout.request_actor, rollout.request_reason = verb, "alice", "test"

    def told(self, kind: str) -> list[str]:
        with session_scope(self.engine, read_only=True) as session:
            return list(session.scalars(select(Event.message).where(Event.kind == kind).order_by(Event.id)))

    def row(self) -> MeshRoute | None:
        with session_scope(self.engine, read_only=True) as session:
            return session.get(MeshRoute, self.pool_id)


def policy(mesh: MeshPolicy | None) -> Policy:
    pace = {"window_s": 2.0, "settle_s": 2.0, "bake_s": 4.0, "mesh": mesh}
    return POLICY.model_copy(update={"rollout": POLICY.rollout.model_copy(update=pace)})


def mesh_lab(
    engine: Engine, settings: ControlPlaneSettings, *, nodes: int = 4, mesh: MeshPolicy | None = MESH
) -> MeshLab:
    """nodes: registered, ready, and at one with the pool."""
    clock = SetClock()
    with session_scope(engine) as session:
        made = lab(session, nodes=nodes)
        epoch, pool_id = made.epoch, made.pool.id
    context = WorkerContext(settings, name="worker@test", clock=clock)
    context._engines[os.getpid()] = engine
    found = MeshLab(engine, clock, MeshKeeper(engine, clock, settings), context, epoch, pool_id)
    if mesh is not None:
        found.set_mesh(mesh)
    return found
