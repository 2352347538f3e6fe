"""What can be said of one node from its row and the time; no session, no clock."""

from datetime import datetime
from enum import StrEnum

from controlplane.fleets.models import Node
from controlplane.fleets.readings import NodeReading
from controlplane.fleets.views import NodeView, Standing
from inference_node.contract.messages import NodeState

Heard = Node | NodeReading | NodeView | Standing


class NodeHealth(StrEnum):
    """What the node says of itself while it is heard of; `unreachable` once it is silent."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


def is_silent(node: Heard, now: datetime, timeout_s: float) -> bool:
    return (now - node.last_heartbeat_at).total_seconds() > timeout_s


def node_health(node: Heard, now: datetime, timeout_s: float) -> NodeHealth:
    """timeout_s: silence after which a node counts as unreachable (`ControlPlaneSettings.heartbeat_timeout_s`)."""
    if is_silent(node, now, timeout_s):
        return NodeHealth.UNREACHABLE
    match NodeState(node.state):
        case NodeState.READY:
            return NodeHealth.READY
        case NodeState.STARTING:
            return NodeHealth.STARTING
        case NodeState.DRAINING:
            return NodeHealth.DRAINING
        case NodeState.FAILED:
            return NodeHealth.FAILED


def is_quarantined(node: Node | NodeView, now: datetime) -> bool:
    """Whether changes leave the node out for now."""
    return node.quarantined_until is not None and now < node.quarantined_until


def in_sync(node: Node | NodeView | Standing) -> bool:
    """Whether the node has what is desired of it: the same generation, and settings of the same hash."""
    if isinstance(node, Standing):
        wanted = node.desired_hash
    else:
        wanted = None if node.desired_revision is None else node.desired_revision.content_hash
    return node.desired_generation == node.observed_generation and wanted in (None, node.observed_hash)
