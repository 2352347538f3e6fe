"""How many nodes of a fleet may be in flight at once: sent new settings that they have not confirmed yet."""

import math

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.fleets.models import Fleet, Node, Pool
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState

# control-plane design 2.1: at most 10 % of the fleet, and always one, or a small fleet could never change.
SHARE = 0.10


def allowed(nodes: int) -> int:
    return max(1, math.floor(SHARE * nodes))


def hold(session: Session, fleet_id: str) -> int:
    """`free`, which nobody else can use up before this transaction has ended: two controllers may send at the same moment."""
    session.execute(select(Fleet.id).where(Fleet.id == fleet_id).with_for_update(key_share=True))
    return free(session, fleet_id)


def free(session: Session, fleet_id: str) -> int:
    """To how many more nodes of the fleet settings may be sent now. What leads back does not ask, and is not counted."""
    pools = select(Pool.id).where(Pool.fleet_id == fleet_id)
    nodes = session.scalar(select(func.count()).select_from(Node).where(Node.pool_id.in_(pools), Node.is_there)) or 0
    under_way = select(Rollout.id).where(Rollout.active_pool_id.in_(pools))
    sent = (
        select(func.count())
        .select_from(RolloutNode)
        .where(RolloutNode.rollout_id.in_(under_way), RolloutNode.state == NodeState.DISPATCHED.value)
    )
    return max(0, allowed(nodes) - (session.scalar(sent) or 0))
