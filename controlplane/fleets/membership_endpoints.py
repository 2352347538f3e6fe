"""Taking a node out for good, and letting one out of quarantine."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.accounts.dependencies import Operator
from controlplane.dependencies import Now, ProcessSettings, WriteSession
from controlplane.fleets import service
from controlplane.idempotency.route import IdempotentRoute
from controlplane.problem import declared

router = APIRouter(tags=["fleet"], route_class=IdempotentRoute)


@router.delete("/nodes/{node_id}", status_code=204, responses=declared(401, 403, 404, 409, 422))
def remove_node(
    node_id: str,
    who: Operator,
    session: WriteSession,
    settings: ProcessSettings,
    now: Now,
    force: Annotated[bool, Query(description="also a node that is still heard of")] = False,
) -> None:
    """Takes a node out of its pool for good: no longer scraped, counted or pushed to. Its history stays."""
    service.remove_node(
        session, node_id, actor=who.name, now=now, heartbeat_timeout_s=settings.heartbeat_timeout_s, force=force
    )


@router.post("/nodes/{node_id}/release", status_code=204, responses=declared(401, 403, 404))
def release_node(node_id: str, who: Operator, session: WriteSession, now: Now) -> None:
    """Ends a node's quarantine: changes reach it again, and it gets its pool's settings within seconds."""
    service.release_node(session, node_id, actor=who.name, now=now)
