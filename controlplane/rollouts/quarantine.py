"""Nodes that are left out of changes for a while: they crashed right after one, or refused three in a row."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.rollouts.actions import NodeMove
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState
from controlplane.rollouts.plan import RolloutPlan

# control-plane design 2.1
REFUSALS = 3


def consider(session: Session, rollout: Rollout, part: RolloutNode, mark: NodeMove, now: datetime) -> None:
    """Puts the node in quarantine for as long as the rollout's policy says, if what was marked calls for it."""
    span_s = RolloutPlan.from_json(rollout.plan).policy.quarantine_s
    node = fleets.get_node(session, part.node_id)
    if fleets.is_quarantined(node, now):
        return
    why = mark.detail or "it failed under a change"
    if mark.state is NodeState.REJECTED:
        if node.refusals < REFUSALS:
            return
        why = f"it refused {node.refusals} changes in a row, the last one because: {why}"
    if span_s > 0:
        until = now + timedelta(seconds=span_s)
        fleets.quarantine_node(session, node, until=until, reason=why, now=now, rollout_id=rollout.id)
