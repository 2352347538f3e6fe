"""Which pool a request is about, by what its path names: roles may be given per pool."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.models import DecisionRecord
from controlplane.fleets.models import Node
from controlplane.rollouts.models import Rollout

_OWNERS = {
    "node_id": (Node.pool_id, Node.id),
    "rollout_id": (Rollout.pool_id, Rollout.id),
    "decision_id": (DecisionRecord.pool_id, DecisionRecord.id),
}


def pool_of(session: Session, path: Mapping[str, str]) -> str | None:
    """Id of the pool; None for a path that names nothing of a pool, or something that is not there."""
    if "pool_id" in path:
        return path["pool_id"]
    for name, (pool_id, key) in _OWNERS.items():
        if name in path:
            return session.scalar(select(pool_id).where(key == path[name]))
    return None
