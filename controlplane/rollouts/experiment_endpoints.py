"""Trying settings on one node over HTTP, under a lease."""

from fastapi import APIRouter, Response
from pydantic import Field

from controlplane.accounts.dependencies import Operator
from controlplane.dependencies import Now, ProcessSettings, WriteSession
from controlplane.fleets import service as fleets
from controlplane.fleets.etags import node_etag
from controlplane.fleets.schemas import ExperimentOut
from controlplane.fleets.wanted import check_offered, wanted_settings
from controlplane.idempotency.route import IdempotentRoute
from controlplane.preconditions import IfMatch, check
from controlplane.problem import declared
from controlplane.processes import shards
from controlplane.rollouts import experiments
from controlplane.schemas import Body
from inference_node.contract.settings import KnobValue

router = APIRouter(tags=["rollouts"], route_class=IdempotentRoute)

# A quarter of an hour tells what a window's figures can; half a day is a rollout that nobody judges.
DEFAULT_S, LEAST_S, MOST_S = 900.0, 10.0, 43_200.0


class ExperimentIn(Body):
    """Knobs to try; those that are left out stay as the pool has them."""

    settings: dict[str, KnobValue] = Field(min_length=1)
    lease_s: float = Field(
        default=DEFAULT_S, ge=LEAST_S, le=MOST_S, description="seconds after which the node goes back by itself"
    )
    reason: str = Field(min_length=1, max_length=500)


@router.post("/nodes/{node_id}/experiment", status_code=201, responses=declared(401, 403, 404, 409, 412, 422, 503))
def begin_experiment(
    node_id: str,
    body: ExperimentIn,
    who: Operator,
    session: WriteSession,
    settings: ProcessSettings,
    now: Now,
    response: Response,
    if_match: IfMatch = None,
) -> ExperimentOut:
    """Tries settings on this node alone. It goes back when the lease ends or its process does, with or without us.

    Not during a rollout of its pool, nor in a frozen one; a rollout that is asked for ends it.
    """
    node = fleets.get_node(session, node_id)
    check(if_match, node_etag(node), what=f"node {node.name}")
    wanted = wanted_settings(fleets.settings_of(fleets.current_revision(session, node.pool)), body.settings)
    check_offered([node], wanted)
    node = experiments.begin_experiment(
        session, node_id, wanted, lease_s=body.lease_s, reason=body.reason, created_by=who.name, now=now,
        epoch=shards.epoch_of(session, node.pool_id), heartbeat_timeout_s=settings.heartbeat_timeout_s,
    )  # fmt: skip
    response.headers["ETag"] = node_etag(node)
    found = ExperimentOut.of(node)
    assert found is not None, "it was begun in this transaction"
    return found


@router.delete("/nodes/{node_id}/experiment", status_code=204, responses=declared(401, 403, 404, 412, 422, 503))
def end_experiment(node_id: str, who: Operator, session: WriteSession, now: Now, if_match: IfMatch = None) -> None:
    """Ends what is tried on the node before its lease does. Nothing to end is no error."""
    node = fleets.lock_node(session, node_id)
    check(if_match, node_etag(node), what=f"node {node.name}")
    experiments.end_experiment(session, node_id, now=now)
