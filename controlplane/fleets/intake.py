"""Whether a node's silence says something of the node: only while somebody takes heartbeats in.

When the API is down, or it or its database has only just come back, every node looks silent. A rollout that took that for the
death of its canary would roll back a good change because of a fault of ours.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.fleets.models import Node
from controlplane.processes.models import ProcessHeartbeat
from controlplane.processes.service import GAP_S

# A node that lost its control plane asks again after at most 15 s (the agent's backoff), and then beats within 5 s.
GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Intake:
    """`listening_until` is the newest sign that heartbeats are taken in, `since` when they were last begun to be: an API process
    started, or could write to the database again after it could not."""

    listening_until: datetime | None
    since: datetime | None

    def is_lost(self, node: Node, timeout_s: float) -> bool:
        """Whether the node was silent for longer than `timeout_s` while others could be heard."""
        if self.listening_until is None:
            return False
        heard = node.last_heartbeat_at
        if self.since is not None:
            heard = max(heard, self.since + timedelta(seconds=max(0.0, GRACE_S - timeout_s)))
        return (self.listening_until - heard).total_seconds() > timeout_s

    def newly_lost(self, session: Session, timeout_s: float) -> list[Node]:
        """Those that are lost and not marked as unreachable yet. SQL leaves out whoever was heard of lately, which is most."""
        if self.listening_until is None:
            return []
        is_quiet = Node.last_heartbeat_at < self.listening_until - timedelta(seconds=timeout_s)
        query = select(Node).where(Node.is_there, Node.unreachable_since.is_(None), is_quiet)
        return [node for node in session.scalars(query) if self.is_lost(node, timeout_s)]


def read_intake(session: Session) -> Intake:
    """What SQL knows: the heartbeats of all nodes, and the signs of life of API processes."""
    newest_beat = session.scalar(select(func.max(Node.last_heartbeat_at)))
    is_api = ProcessHeartbeat.kind == "api"
    alive, since = session.execute(
        select(func.max(ProcessHeartbeat.at), func.max(ProcessHeartbeat.steady_since)).where(is_api)
    ).one()
    if newest_beat is not None and alive is not None and (newest_beat - alive).total_seconds() > GAP_S:
        # A node was heard again before the API said that it hears: until it has, nothing is known of the others.
        since = newest_beat
    signs = [at for at in (newest_beat, alive) if at is not None]
    return Intake(max(signs, default=None), since)
