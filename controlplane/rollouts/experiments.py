"""Settings tried on one node alone, under a lease: the node goes back by itself, whatever becomes of the control plane.

An operator's probe, outside of rollouts and their verdicts. A rollout that is asked for ends the pool's experiments.
"""

import math
from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts.plan import CANARY_CAP
from controlplane.rollouts.service import NothingToChange, PoolFrozen, RolloutActive, active_rollout
from controlplane.rollouts.words import changes_words
from inference_node.contract.settings import EngineSettings


class TooManyExperiments(Conflict):
    title = "Enough is being tried"


def allowed(nodes: int) -> int:
    """How many nodes of a pool of so many may be tried on at once: as many as a canary may be, and at least one."""
    return max(1, math.floor(CANARY_CAP * nodes))


def begin_experiment(
    session: Session,
    node_id: str,
    wanted: EngineSettings,
    *,
    lease_s: float,
    reason: str,
    created_by: str,
    epoch: int,
    now: datetime,
    heartbeat_timeout_s: float,
) -> Node:
    """Wishes `wanted` for this node alone, for `lease_s` seconds. A second one on the same node takes the place of the first.

    Raises RolloutActive, PoolFrozen, NothingToChange, TooManyExperiments, and Conflict for a node that cannot be tried on.
    """
    pool = fleets.lock_pool(session, fleets.get_node(session, node_id).pool_id)  # one experiment at a time is counted
    node = fleets.lock_node(session, node_id)
    active = active_rollout(session, pool.id)
    if active is not None:
        raise RolloutActive(
            f"rollout {active.id} of pool {pool.name!r} is under way ({active.phase}): wait for its end, or abort it",
            rollout_id=active.id,
        )
    frozen = fleets.frozen_by_hand(session, pool)
    if frozen is not None:
        raise PoolFrozen(f"pool {pool.name!r} is frozen ({frozen}): unfreeze it first")
    health = fleets.node_health(node, now, heartbeat_timeout_s)
    if health is not fleets.NodeHealth.READY or fleets.is_quarantined(node, now):
        state = "in quarantine" if fleets.is_quarantined(node, now) else health.value
        raise Conflict(f"node {node.name!r} is {state}: try it on a node that is ready")
    current = fleets.current_revision(session, pool)
    if wanted.content_hash() == current.content_hash:
        raise NothingToChange(f"pool {pool.name!r} runs these settings already, as revision {current.number}")
    nodes = fleets.list_nodes(session, pool.id)
    others = [each for each in nodes if each.id != node.id and each.lease_s is not None]
    if len(others) >= allowed(len(nodes)):
        names = ", ".join(each.name for each in others)
        raise TooManyExperiments(
            f"in a pool of {len(nodes)} nodes {allowed(len(nodes))} may be tried on at once, and {names} is: end that first"
        )
    revision = fleets.create_revision(
        session, pool, wanted, created_by=created_by, reason=reason, now=now, is_trial=True
    )
    fleets.set_desired(session, node, revision, epoch=epoch, now=now, lease_s=lease_s)
    changes = fleets.settings_of(current).changed(wanted)
    events.record(
        session, kind=EventKind.NODE_EXPERIMENT_STARTED, at=now, actor=created_by, pool_id=pool.id, node_id=node.id,
        message=f"{changes_words(changes)} is tried on node {node.name} for {lease_s:g} s: {reason}",
        data={"revision": revision.number, "lease_s": lease_s, "reason": reason,
              "changes": {knob: list(pair) for knob, pair in changes.items()}},
    )  # fmt: skip
    return node


def end_experiment(session: Session, node_id: str, *, now: datetime) -> Node:
    """The node gets its pool's settings back now. One that nothing is tried on is left as it is."""
    node = fleets.lock_node(session, node_id)
    if node.lease_s is not None:
        fleets.end_experiment(session, node, now)
    return node
