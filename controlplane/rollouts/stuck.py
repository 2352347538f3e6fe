"""Finds rollouts that are past any time that their phase can take: something of ours does not move them, and a person must know.

Reads rows only, so that it works where the reconciling itself is what fails.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import Event
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import RolloutPlan

P = RolloutPhase
# Beyond what the plan itself allows: a controller that takes over, a database that is slow.
SLACK_S = 60.0


@dataclass(frozen=True, slots=True)
class Stuck:
    rollout_id: str
    pool_id: str
    phase: RolloutPhase
    since: datetime
    limit_s: float


def limit_s(phase: RolloutPhase, plan: RolloutPlan) -> float:
    """The longest that a rollout may stay in `phase` without progress before it is past its own deadlines, in seconds."""
    policy = plan.policy
    watch_s = policy.settle_s + (policy.windows + 2) * policy.window_s
    match phase:
        case P.PENDING_APPROVAL | P.SCHEDULED:
            return policy.start_within_s + SLACK_S
        case P.BASELINING:
            return watch_s + SLACK_S
        case P.ANALYZING:  # two looks, each of which may take twice its windows
            return 4 * watch_s + SLACK_S
        case P.BAKING:
            return policy.bake_s + SLACK_S
        case P.PAUSED:
            return policy.pause_limit_s + SLACK_S
        case _:
            return policy.progress_deadline_s + SLACK_S


def find_stuck(session: Session, now: datetime) -> list[Stuck]:
    """Those under way that have made no progress for too long. Reads only."""
    found = []
    for row in session.scalars(select(Rollout).where(Rollout.active_pool_id.is_not(None))):
        phase, plan = P(row.phase), RolloutPlan.from_json(row.plan)
        limit = limit_s(phase, plan)
        if now - row.phase_since <= timedelta(seconds=limit):
            continue
        parts = select(RolloutNode.dispatched_at, RolloutNode.applied_at).where(RolloutNode.rollout_id == row.id)
        times = [at for pair in session.execute(parts) for at in pair if at is not None]
        since = max([row.phase_since, *times])
        if row.not_before is not None and phase is P.SCHEDULED:
            since = max(since, row.not_before)
        if now - since > timedelta(seconds=limit):
            found.append(Stuck(row.id, row.pool_id, phase, since, limit))
    return found


def untold(session: Session, stuck: list[Stuck]) -> list[Stuck]:
    """Those of which people have not been told since they got stuck."""
    told = []
    for each in stuck:
        query = select(Event.id).where(
            Event.rollout_id == each.rollout_id, Event.kind == EventKind.ROLLOUT_STUCK.value, Event.at >= each.since
        )
        if session.scalars(query.limit(1)).first() is None:
            told.append(each)
    return told


def tell(session: Session, stuck: list[Stuck], *, terms: Terms, now: datetime) -> None:
    """Records `rollout.stuck` for each. Raises Fenced for a deposed leader."""
    shards.assert_leads_all(session, terms, [each.pool_id for each in stuck])
    for each in untold(session, stuck):
        row = session.get_one(Rollout, each.rollout_id)
        waited_s = (now - each.since).total_seconds()
        events.record(
            session, kind=EventKind.ROLLOUT_STUCK, severity=Severity.ERROR, at=now, pool_id=row.pool_id,
            rollout_id=row.id, decision_id=row.decision_id, data={"phase": each.phase.value, "limit_s": each.limit_s},
            message=f"The rollout has been in {each.phase.value} without progress for {waited_s:.0f} s, at most "
            f"{each.limit_s:.0f} s are to be expected: see the controller's troubles in GET /api/v1/system, or abort it",
        )  # fmt: skip
