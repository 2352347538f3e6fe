"""Where nodes tell what they wrote down while nobody heard them."""

from fastapi import APIRouter

from controlplane.accounts.access import access
from controlplane.dependencies import Now, WriteSession
from controlplane.fleets.agent_endpoints import AgentNodeId
from controlplane.problem import declared
from controlplane.telemetry.from_nodes import take_history
from inference_node.contract.history import HistoryTaken, NodeHistory

router = APIRouter(prefix="/agents", tags=["agents"])


@router.post("/{node_id}/history", responses=declared(401, 422), openapi_extra=access("node"))
def tell_history(body: NodeHistory, node_id: AgentNodeId, session: WriteSession, now: Now) -> HistoryTaken:
    """A node that was on its own tells its windows and changes, part by part. A part that was taken before changes nothing."""
    return HistoryTaken(number=body.number, new=take_history(session, node_id, body, now=now))
