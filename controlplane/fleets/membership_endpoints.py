"""Taking a node out for good, and letting one out of quarantine."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.accounts.dependencies import Operator
from controlplane.dependencies import Now, ProcessSettings, WriteSession
from controlplane.fleets import service
from controlplane.fleets.etags import node_etag
from controlplane.idempotency.route import IdempotentRoute
from controlplane.preconditions import IfMatch, check
from controlplane.problem import declared

router = APIRouter(tags=["fleet"], route_class=IdempotentRoute)


@router.delete("/nodes/{node_id}", status_code=204, responses=declared(401, 403, 404, 409, 412, 422))
def remove_node(
    node_id: str,
    who: Operator,
    session: WriteSession,
    settings: ProcessSettings,
    now: Now,
    force: Annotated[bool, Query(description="also a node that is still heard of")] = False,
    if_match: IfMatch = None,
) -> None:
    """Takes a node out of its pool for good: no longer scraped, counted or pushed to. Its history stays."""
    node = service.lock_node(session, node_id)
    check(if_match, node_etag(node), what=f"node {node.name}")
    service.remove_node(
        session, node_id, actor=who.name, now=now, heartbeat_timeout_s=settings.heartbeat_timeout_s, force=force
    )


@router.post("/nodes/{node_id}/release", status_code=204, responses=declared(401, 403, 404, 412, 422))
def release_node(node_id: str, who: Operator, session: WriteSession, now: Now, if_match: IfMatch = None) -> None:
    """Ends a node's quarantine: changes reach it again, and it gets its pool's settings within seconds."""
    node = service.lock_node(session, node_id)
    check(if_match, node_etag(node), what=f"node {node.name}")
    service.release_node(session, node_id, actor=who.name, now=now)
