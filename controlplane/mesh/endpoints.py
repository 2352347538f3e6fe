"""The mesh route of a pool or a rollout, as the objects that say it."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.decisions.mesh_policy import MeshKind
from controlplane.dependencies import ReadSession
from controlplane.fleets import service as fleets
from controlplane.mesh.schemas import MeshOut, mesh_out
from controlplane.mesh.wish import wish_for, wish_of
from controlplane.problem import declared
from controlplane.rollouts import service as rollouts

router = APIRouter(tags=["rollouts"])

_VIEWER = [require(Role.VIEWER)]
_READ = declared(401, 403, 404, 422)
Format = Annotated[MeshKind | None, Query(alias="format", description="another kind of route than the policy names")]


@router.get("/pools/{pool_id}/mesh", dependencies=_VIEWER, responses=_READ)
def get_pool_mesh(pool_id: str, session: ReadSession, kind: Format = None) -> MeshOut:
    """How the pool's requests are shared out between old and new settings now, as an Istio VirtualService or a Gateway API
    HTTPRoute. 404 when its policy names no mesh route."""
    pool = fleets.get_pool(session, pool_id)
    return mesh_out(session, pool.id, wish_for(session, pool, kind=kind))


@router.get("/rollouts/{rollout_id}/mesh", dependencies=_VIEWER, responses=_READ)
def get_rollout_mesh(rollout_id: str, session: ReadSession, kind: Format = None) -> MeshOut:
    """The same for one rollout; after its end the baseline has all requests."""
    rollout = rollouts.get_rollout(session, rollout_id)
    return mesh_out(session, rollout.pool_id, wish_of(session, rollout, kind=kind))
