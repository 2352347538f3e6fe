"""Settings that an operator edited at a node itself: what the pool's policy makes of them."""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from controlplane.decisions.policy import OnDrift
from controlplane.decisions.service import current_policy
from controlplane.errors import ControlPlaneError
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts import service
from controlplane.rollouts.models import Rollout
from inference_node.contract.settings import EngineSettings

log = structlog.get_logger()


def kept_as(session: Session, node: Node) -> OnDrift:
    """What becomes of the node's settings now. A node that could not start with its settings was edited by nobody, and one whose
    pool wants something else by now gets that."""
    is_edit = node.drifted and node.edited and node.observed_generation == node.desired_generation
    if not is_edit or node.desired_revision_id != node.pool.current_revision_id:
        return OnDrift.REASSERT
    return current_policy(session, node.pool_id)[0].on_drift


def adopt(session: Session, node: Node, *, epoch: int, now: datetime) -> Rollout | None:
    """Makes the edit a change of the pool, like any that the controller proposes: with a canary, and with a person's approval
    where a knob asks for it. The node goes back first, or it would be compared with itself. None while that cannot begin, with
    nothing changed."""
    settings = EngineSettings.model_validate(node.observed_settings)
    reason = f"edited at node {node.name} itself, and the policy adopts that (on_drift)"
    policy, _ = current_policy(session, node.pool_id)
    current = fleets.current_revision(session, node.pool)
    try:
        with session.begin_nested():
            revision = fleets.create_revision(
                session, node.pool, settings, created_by=f"node:{node.name}", reason=reason, now=now
            )
            rollout = service.create_rollout(
                session, pool=node.pool, to_revision=revision, decision_id=None, policy=policy, epoch=epoch,
                created_by=service.CONTROLLER, reason=reason, now=now,
            )  # fmt: skip
            fleets.set_desired(session, node, current, epoch=epoch, now=now)
    except (
        ControlPlaneError
    ) as error:  # another rollout, a freeze, no node ready: it keeps its settings, and is asked again
        log.info("edit_not_adopted", node=node.name, why=error.detail)
        return None
    return rollout
