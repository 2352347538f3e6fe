"""Anti-entropy: what got lost on its way to a node is owed again, and a node outside its pool's settings is brought back.

Level-triggered: it compares what is desired with what is observed, afresh each time, and does not care how they came apart.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.intake import read_intake
from controlplane.fleets.models import Node
from controlplane.processes import lease
from controlplane.rollouts.models import Rollout

PATIENCE_S = 5.0
# A repeated push of the same wish gets its own key once in so many seconds: a node that never agrees costs two rows a minute.
REPEAT_S = 30


@dataclass(frozen=True, slots=True)
class Strays:
    """Ids of nodes that are behind their wish, and of nodes whose wish is not their pool's."""

    behind: tuple[str, ...]
    astray: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.behind or self.astray)


def find_strays(session: Session, *, now: datetime, heartbeat_timeout_s: float) -> Strays:
    """Reads only, so that a fleet in order costs no write."""
    busy = set(session.scalars(select(Rollout.active_pool_id).where(Rollout.active_pool_id.is_not(None))))
    intake = read_intake(session)
    behind, astray = [], []
    for node in fleets.list_nodes(session):
        if fleets.is_quarantined(node, now):
            continue  # it keeps what it has until it is released
        if node.pool_id not in busy and node.desired_revision_id != node.pool.current_revision_id:
            astray.append(node.id)
        elif _is_behind(node, now) and not intake.is_lost(node, heartbeat_timeout_s):
            behind.append(node.id)
    return Strays(tuple(behind), tuple(astray))


def converge(session: Session, strays: Strays, *, epoch: int, now: datetime) -> int:
    """Owes what is missing; returns how much. Raises Fenced for a deposed leader."""
    lease.assert_leads(session, lease.CONTROLLER, epoch)
    owed = 0
    for node_id in strays.astray:
        node = fleets.get_node(session, node_id)
        target = fleets.current_revision(session, node.pool)
        busy = select(Rollout.id).where(Rollout.active_pool_id == node.pool_id)
        if node.desired_revision_id != target.id and session.scalar(busy) is None:  # one may have begun meanwhile
            fleets.set_desired(session, node, target, epoch=epoch, now=now)
            owed += 1
    for node_id in strays.behind:
        node = fleets.get_node(session, node_id)
        again = str(int(now.timestamp()) // REPEAT_S)
        if _is_behind(node, now) and not _is_owed(session, node, again):
            fleets.owe_push(session, node, now=now, again=again)
            owed += 1
    return owed


def _is_behind(node: Node, now: datetime) -> bool:
    """Behind its wish for longer than a push takes, and neither preparing it nor having refused it."""
    if fleets.in_sync(node) or node.desired_since is None:
        return False
    if node.rejected_generation == node.desired_generation or node.preparing_generation == node.desired_generation:
        return False
    return (now - node.desired_since).total_seconds() > PATIENCE_S


def _is_owed(session: Session, node: Node, again: str) -> bool:
    """Whether a push of the present wish is still open: the relay publishes that one until it is done. Or was owed just now."""
    key = f"push:{node.id}:{node.desired_generation}"
    is_open = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
    is_first_or_repeated = (OutboxItem.key == key) | OutboxItem.key.startswith(f"{key}:")
    query = select(OutboxItem.id).where((is_open & is_first_or_repeated) | (OutboxItem.key == f"{key}:{again}"))
    return session.scalars(query.limit(1)).first() is not None
