"""Tags of pools and nodes: they change with what is decided about them, not with what they report."""

from controlplane.fleets.models import Node, Pool
from controlplane.preconditions import etag


def pool_etag(pool: Pool) -> str:
    return etag(pool.id, pool.current_revision_id, pool.frozen_at, pool.frozen_reason)


def node_etag(node: Node) -> str:
    return etag(node.id, node.instance_id, node.desired_generation, node.quarantined_until, node.removed_at)
