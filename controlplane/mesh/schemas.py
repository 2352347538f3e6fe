"""What clients see of a pool's route."""

from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from controlplane.decisions.mesh_policy import MeshKind
from controlplane.mesh import files
from controlplane.mesh.models import MeshRoute
from controlplane.mesh.split import Arm
from controlplane.mesh.wish import Wish
from controlplane.schemas import Out, UtcTime


class MeshArmOut(Out):
    service: str
    weight: int = Field(description="percent of the requests")
    nodes: list[str]


class MeshAppliedOut(Out):
    """What is known of the object in the cluster, where Trimtab applies it."""

    generation: int = Field(description="of what it should say; only grows")
    applied_generation: int = Field(description="of what it is known to say; 0: nothing of ours yet")
    applied_at: UtcTime | None
    error: str | None = Field(description="why the last try failed")


class MeshOut(Out):
    pool: str = Field(description="fleet/pool")
    rollout_id: str | None
    kind: MeshKind
    baseline: MeshArmOut
    canary: MeshArmOut
    why: str
    manifest: dict[str, Any] = Field(description="a List for `kubectl apply --server-side -f`")
    applied: MeshAppliedOut | None = Field(description="null unless Trimtab applies it through the Kubernetes API")


def mesh_out(session: Session, pool_id: str, wish: Wish) -> MeshOut:
    row = session.get(MeshRoute, pool_id)
    split, mesh = wish.split, wish.mesh
    return MeshOut(
        pool=wish.pool,
        rollout_id=wish.rollout_id,
        kind=mesh.kind,
        baseline=MeshArmOut(
            service=mesh.baseline_service, weight=split.baseline_weight, nodes=split.names(Arm.BASELINE)
        ),
        canary=MeshArmOut(service=mesh.canary_service, weight=split.canary_weight, nodes=split.names(Arm.CANARY)),
        why=wish.why,
        manifest=files.document([wish.route()]),
        applied=None if row is None else MeshAppliedOut.model_validate(row),
    )
