"""Reads a rollout, its nodes and its windows out of SQL, as the snapshot that `reconcile()` is given."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.decisions.service import current_policy, frozen_reason
from controlplane.fleets import service as fleets
from controlplane.fleets.intake import Intake, read_intake
from controlplane.fleets.models import Node
from controlplane.rollouts import approvals, in_flight, served, windows
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.models import Analysis, Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Mode, Role, RolloutPlan
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from inference_node.contract.messages import NodeState as Lifecycle
from inference_node.contract.served import ServedQuality

P = RolloutPhase
_SENDING = {P.BASELINING, P.ANALYZING, P.PROMOTING, P.PAUSED}
_PLANNED_LOOKS = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


def load_snapshot(
    session: Session, rollout_id: str, *, now: datetime, heartbeat_timeout_s: float
) -> RolloutSnapshot | None:
    """What `reconcile()` needs; None when the rollout is not there. Reads only."""
    row = session.get(Rollout, rollout_id)
    if row is None:
        return None
    pool = fleets.get_pool(session, row.pool_id)
    intake = read_intake(session)
    plan = RolloutPlan.from_json(row.plan)
    revisions = fleets.get_revisions(session, (row.from_revision_id, row.to_revision_id))
    old, new = revisions[row.from_revision_id], revisions[row.to_revision_id]
    is_judged = plan.mode is not Mode.DIRECT  # the others go straight to all nodes: no windows, looks or limits
    parts = session.execute(
        select(RolloutNode, Node).join(Node, Node.id == RolloutNode.node_id).where(RolloutNode.rollout_id == row.id)
    ).all()
    views = tuple(
        sorted(
            (_view(part, node, intake, heartbeat_timeout_s, now) for part, node in parts),
            key=lambda view: (view.wave, view.name),
        )
    )
    arms = {*plan.canary, *plan.control}
    steady = [
        at for _, node in parts if node.id in arms for at in (node.started_at, node.desired_since) if at is not None
    ]
    policy, _ = current_policy(session, pool.id)
    approved, refused_by = approvals.standing(session, row, new.content_hash)
    before, after = fleets.settings_of(old), fleets.settings_of(new)
    snapshot = RolloutSnapshot(
        id=row.id,
        pool_id=row.pool_id,
        phase=P(row.phase),
        phase_since=row.phase_since,
        version=row.version,
        step=row.step,
        plan=plan,
        from_hash=old.content_hash,
        to_hash=new.content_hash,
        from_number=old.number,
        to_number=new.number,
        changes=before.changed(after),
        nodes=views,
        steady_since=max(steady, default=row.created_at),
        looks=_count_looks(session, row.id) if is_judged else 0,
        request=None if row.request is None else Verb(row.request),
        request_actor=row.request_actor or "",
        request_reason=row.request_reason or "",
        paused_from=None if row.paused_from is None else P(row.paused_from),
        paused_by=None if row.paused_by is None else PausedBy(row.paused_by),
        # A freeze that is put in now holds now, whatever policy the rollout was planned under.
        frozen_reason=frozen_reason(session, pool, policy, now),
        created_by=row.created_by,
        approvals=approved,
        approvals_needed=row.approvals_needed,
        refused_by=refused_by,
        not_before=row.not_before,
        expires_at=row.expires_at,
        in_flight_free=in_flight.free(session, pool.fleet_id) if is_judged and P(row.phase) in _SENDING else None,
        listening_since=intake.since,
        answers_at_stake=is_judged and plan.policy.served.share > 0 and served.at_stake(before, after),
    )
    if not is_judged:
        return snapshot
    found = windows.load(
        session, row.id, judged_from=snapshot.judged_from, now=now,
        window_s=plan.policy.window_s, windows=plan.policy.windows,
    )  # fmt: skip
    return snapshot.with_windows(found)


def _view(part: RolloutNode, node: Node, intake: Intake, timeout_s: float, now: datetime) -> NodeView:
    reachable = node.is_there and not intake.is_lost(node, timeout_s)
    return NodeView(
        id=node.id,
        name=node.name,
        role=Role(part.role),
        wave=part.wave,
        state=NodeState(part.state),
        generation=part.generation,
        dispatched_at=part.dispatched_at,
        applied_at=part.applied_at,
        instance_at_dispatch=part.instance_id,
        instance_id=node.instance_id,
        reachable=reachable,
        ready=reachable and node.state == Lifecycle.READY and not fleets.is_quarantined(node, now),
        observed_generation=node.observed_generation,
        observed_hash=node.observed_hash,
        rejected_generation=node.rejected_generation,
        rejected_reason=node.rejected_reason,
        quarantined=fleets.is_quarantined(node, now),
        started_at=node.started_at,
        served=None if node.served is None else ServedQuality.model_validate(node.served),
    )


def _count_looks(session: Session, rollout_id: str) -> int:
    query = (
        select(func.count())
        .select_from(Analysis)
        .where(Analysis.rollout_id == rollout_id, Analysis.verdict.in_([verdict.value for verdict in _PLANNED_LOOKS]))
    )
    return session.scalar(query) or 0
