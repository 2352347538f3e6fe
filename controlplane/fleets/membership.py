"""Which nodes take part: quarantine, release, and removal for good."""

from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.health import is_quarantined, is_silent
from controlplane.fleets.inventory import lock_node
from controlplane.fleets.models import Node


def quarantine_node(
    session: Session,
    node: Node,
    *,
    until: datetime,
    reason: str,
    now: datetime,
    actor: str = "controller",
    rollout_id: str | None = None,
) -> None:
    """Changes leave the node out until then; it keeps serving, and keeps its settings."""
    node.quarantined_until, node.quarantined_reason = until, reason
    session.flush()
    events.record(
        session, kind=EventKind.NODE_QUARANTINED, severity="error", at=now, actor=actor, pool_id=node.pool_id,
        node_id=node.id, rollout_id=rollout_id, data={"until": until.isoformat(), "reason": reason},
        message=f"Node {node.name} is in quarantine until {until:%Y-%m-%d %H:%M} UTC: {reason}",
    )  # fmt: skip


def release_node(session: Session, node_id: str, *, actor: str, now: datetime) -> Node:
    """Ends a quarantine; the node gets its pool's settings within seconds. Nothing to do is no error."""
    node = lock_node(session, node_id)
    was = is_quarantined(node, now)
    node.quarantined_until = node.quarantined_reason = None
    node.refusals = 0
    if was:
        events.record(
            session, kind=EventKind.NODE_RELEASED, at=now, actor=actor, pool_id=node.pool_id, node_id=node.id,
            message=f"Node {node.name} is out of quarantine",
        )  # fmt: skip
    session.flush()
    return node


def remove_node(
    session: Session, node_id: str, *, actor: str, now: datetime, heartbeat_timeout_s: float, force: bool = False
) -> Node:
    """Takes a node out of its pool for good: it is no longer scraped, counted or pushed to, and its token is void.

    Its row stays for history. Raises Conflict for a node that is still heard of, unless forced: it would register again at once,
    as long as it runs with a valid enrolment token.
    """
    node = lock_node(session, node_id)
    if node.removed_at is not None:
        return node
    if not force and not is_silent(node, now, heartbeat_timeout_s):
        raise Conflict(
            f"node {node.name!r} is still running: stop it first, or it would register again (force removes it anyway)"
        )
    node.removed_at, node.token_hash, node.admin_token = now, "", ""
    node.quarantined_until = node.quarantined_reason = node.unreachable_since = None
    session.flush()
    events.record(
        session, kind=EventKind.NODE_REMOVED, severity="warning", at=now, actor=actor, pool_id=node.pool_id,
        node_id=node.id, message=f"Node {node.name} was removed from pool {node.pool.name}",
    )  # fmt: skip
    return node
