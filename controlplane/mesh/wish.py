"""What a pool's route should say now, read out of SQL: from the rollout under way, or the pool's policy without one."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.mesh_policy import MeshKind, MeshPolicy
from controlplane.decisions.service import current_policy
from controlplane.errors import NotFound
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.mesh.manifests import Manifest, pod_labels, route
from controlplane.mesh.split import Arm, Place, Split, split
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState, RolloutPhase
from controlplane.rollouts.plan import Mode, RolloutPlan


class NoMesh(NotFound):
    title = "The pool has no mesh route"


class Wish(BaseModel):
    """The weights of a pool's route and the arm of each of its nodes. `pool` is `fleet/pool`."""

    model_config = ConfigDict(frozen=True)

    pool: str
    rollout_id: str | None
    mesh: MeshPolicy
    canary_weight: int
    arms: dict[str, Arm]
    why: str

    @property
    def split(self) -> Split:
        return Split(self.canary_weight, self.arms, self.why)

    def route(self, generation: int | None = None) -> Manifest:
        return route(self.mesh, self.split, pool=self.pool, rollout_id=self.rollout_id, generation=generation)

    def pods(self) -> list[Manifest]:
        """None unless the policy wants labels."""
        if not self.mesh.label_pods:
            return []
        return [pod_labels(self.mesh, name, arm) for name, arm in sorted(self.arms.items())]

    def says_the_same(self, other: Self) -> bool:
        """Whether the objects would be the same; the words on why may differ."""
        return (self.route(), self.pods()) == (other.route(), other.pods())

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def find_wish(session: Session, pool: Pool, *, kind: MeshKind | None = None) -> Wish | None:
    """What the pool's route should say now; None for a pool without one. kind: another form than the policy's."""
    rollout = session.scalar(select(Rollout).where(Rollout.active_pool_id == pool.id))
    # A rollout keeps the route that it was planned with: a policy edited meanwhile must not leave its weights behind.
    planned = None if rollout is None else RolloutPlan.from_json(rollout.plan).policy.mesh
    mesh = planned or current_policy(session, pool.id)[0].rollout.mesh
    return None if mesh is None else _wish(session, pool, rollout, mesh, kind)


def wish_for(session: Session, pool: Pool, *, kind: MeshKind | None = None) -> Wish:
    """As `find_wish`. Raises NoMesh."""
    wish = find_wish(session, pool, kind=kind)
    if wish is None:
        raise _no_mesh(pool)
    return wish


def wish_of(session: Session, rollout: Rollout, *, kind: MeshKind | None = None) -> Wish:
    """The same for one rollout, also after its end, when the baseline has all requests. Raises NoMesh."""
    pool = fleets.get_pool(session, rollout.pool_id)
    mesh = RolloutPlan.from_json(rollout.plan).policy.mesh or current_policy(session, pool.id)[0].rollout.mesh
    if mesh is None:
        raise _no_mesh(pool)
    return _wish(session, pool, rollout, mesh, kind)


def _no_mesh(pool: Pool) -> NoMesh:
    return NoMesh(
        f"pool {pool.name!r} has no mesh route: name its route and its services under rollout.mesh of the pool's policy"
    )


def _wish(session: Session, pool: Pool, rollout: Rollout | None, mesh: MeshPolicy, kind: MeshKind | None) -> Wish:
    if kind is not None:
        mesh = mesh.model_copy(update={"kind": kind})
    phase = None if rollout is None else RolloutPhase(rollout.phase)
    direct = rollout is not None and RolloutPlan.from_json(rollout.plan).mode is Mode.DIRECT
    shared = split(_places(session, pool, rollout), phase, mesh, direct=direct)
    return Wish(
        pool=f"{pool.fleet.name}/{pool.name}",
        rollout_id=None if rollout is None else rollout.id,
        mesh=mesh,
        canary_weight=shared.canary_weight,
        arms=shared.arms,
        why=shared.why,
    )


def _places(session: Session, pool: Pool, rollout: Rollout | None) -> list[Place]:
    parts: dict[str, RolloutNode] = {}
    if rollout is not None:
        rows: Sequence[RolloutNode] = session.scalars(
            select(RolloutNode).where(RolloutNode.rollout_id == rollout.id)
        ).all()
        parts = {row.node_id: row for row in rows}
    places = []
    for node in fleets.list_nodes(session, pool.id):
        part = parts.get(node.id)
        reachable = node.unreachable_since is None
        if part is None:
            places.append(Place(node.name, reachable))
        else:
            places.append(Place(node.name, reachable, part.wave, NodeState(part.state)))
    return places
