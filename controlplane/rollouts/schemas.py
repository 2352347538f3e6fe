"""What clients see of rollouts, and what they may ask for."""

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.events.schemas import EventOut
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node, SettingsRevision
from controlplane.preconditions import etag
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.approvals import list_approvals
from controlplane.rollouts.ladder import ladder
from controlplane.rollouts.models import Analysis, Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Role, RolloutPlan
from controlplane.schemas import Body, Out, UtcTime
from inference_node.contract.settings import EngineSettings, KnobValue

Changes = dict[str, tuple[KnobValue, KnobValue]]
TIMELINE = 200


class RolloutIn(Body):
    """A change to roll out: only the knobs that differ need to be named."""

    pool_id: str
    settings: dict[str, KnobValue] = Field(min_length=1, description="knob -> wanted value")
    reason: str = Field(min_length=1, max_length=500, description="why; it stands in the timeline")
    not_before: AwareDatetime | None = Field(default=None, description="when it may begin; absent: at once")
    propose: bool = Field(
        default=False, description="wait until somebody else approves it, also where the policy asks for nobody"
    )
    dry_run: bool = Field(default=False, description="show the plan and whom it would reach; change nothing")


class RequestIn(Body):
    reason: str = Field(default="", max_length=500)


class RevisionShort(Out):
    number: int
    content_hash: str = Field(description="what an approval is bound to")
    settings: EngineSettings


class RungOut(Out):
    index: int
    name: str
    state: str = Field(description="done, active, paused, failed, skipped or pending")
    nodes: int


class RolloutNodeOut(Out):
    node_id: str
    name: str
    role: Role
    wave: int
    state: NodeState
    generation: int | None
    dispatched_at: UtcTime | None
    applied_at: UtcTime | None
    detail: str | None


class MeasurementOut(Out):
    """Latencies in seconds, shares 0 to 1; `effect_ratio` 1.2 means 20 % more than without the change, and the interval is of it.

    `served_kl` (nats per token) and `served_top1_loss` (share of places) tell how far what the canary really served lies from
    full precision, whose own is 0: they have no ratio, interval and margin are of the figure itself, samples are requests.
    """

    metric: str
    verdict: Verdict
    canary: float | None
    baseline: float | None = Field(description="what it would be without the change")
    effect_ratio: float | None
    ci_low: float | None
    ci_high: float | None
    margin: float | None
    samples_canary: int
    samples_baseline: int
    detail: str
    power: float | None = Field(
        default=None, description="chance that an effect of twice the margin would have been found out; null for counts"
    )
    advisory: bool = Field(default=False, description="it decides nothing: for people to look at")


class AnalysisOut(Out):
    id: str
    at: UtcTime
    verdict: Verdict
    explanation: str
    measurements: list[MeasurementOut]


class RequestOut(Out):
    """Asked for by a person, and not yet met by the controller."""

    verb: Verb
    actor: str
    reason: str | None


class ApprovalOut(Out):
    actor: str
    at: UtcTime
    agrees: bool
    comment: str


class RolloutOut(Out):
    id: str
    pool_id: str
    pool: str
    decision_id: str | None
    phase: RolloutPhase
    phase_since: UtcTime
    step: int
    steps: list[RungOut]
    from_revision: RevisionShort
    to_revision: RevisionShort
    changes: Changes = Field(description="knob -> [from, to]")
    nodes: list[RolloutNodeOut]
    request: RequestOut | None
    paused_reason: str | None
    paused_by: PausedBy | None
    reason: str
    outcome: str | None
    created_by: str
    created_at: UtcTime
    not_before: UtcTime | None = Field(description="when it may begin")
    expires_at: UtcTime | None = Field(description="by when it must have begun")
    approvals_needed: int
    approvals: list[ApprovalOut] = Field(description="oldest first")
    ended_at: UtcTime | None
    analyses: list[AnalysisOut] = Field(description="newest first")
    timeline: list[EventOut] = Field(description="oldest first")


class PlannedNodeOut(Out):
    node_id: str
    name: str
    role: Role
    wave: int


class PlanOut(Out):
    """What a rollout would do."""

    dry_run: Literal[True] = True
    pool_id: str
    pool: str
    from_revision: RevisionShort
    settings: EngineSettings
    changes: Changes
    steps: list[RungOut]
    nodes: list[PlannedNodeOut] = Field(description="the blast radius: every node that would change, in order")
    canary_watch_s: float = Field(description="how long the canary is watched before the first wave, at least")
    notes: list[str]


def rollout_out(session: Session, row: Rollout, *, whole: bool) -> RolloutOut:
    """whole: with analyses and timeline, which lists leave out."""
    plan = RolloutPlan.from_json(row.plan)
    old, new = (fleets.get_revision(session, id_) for id_ in (row.from_revision_id, row.to_revision_id))
    phase = RolloutPhase(row.phase)
    nodes = session.execute(
        select(RolloutNode, Node.name)
        .join(Node, Node.id == RolloutNode.node_id)
        .where(RolloutNode.rollout_id == row.id)
        .order_by(RolloutNode.wave, Node.name)
    ).all()
    rungs = ladder(plan, phase, row.step, reached=_reached(session, row))
    return RolloutOut(
        id=row.id,
        pool_id=row.pool_id,
        pool=fleets.get_pool(session, row.pool_id).name,
        decision_id=row.decision_id,
        phase=phase,
        phase_since=row.phase_since,
        step=row.step,
        steps=[RungOut.model_validate(rung) for rung in rungs],
        from_revision=revision_short(old),
        to_revision=revision_short(new),
        changes=fleets.settings_of(old).changed(fleets.settings_of(new)),
        nodes=[RolloutNodeOut.model_validate({**_columns(part), "name": name}) for part, name in nodes],
        request=None
        if row.request is None
        else RequestOut(verb=Verb(row.request), actor=row.request_actor or "", reason=row.request_reason),
        paused_reason=row.paused_reason,
        paused_by=None if row.paused_by is None else PausedBy(row.paused_by),
        reason=row.reason,
        outcome=row.outcome,
        created_by=row.created_by,
        created_at=row.created_at,
        not_before=row.not_before,
        expires_at=row.expires_at,
        approvals_needed=row.approvals_needed,
        approvals=[ApprovalOut.model_validate(vote) for vote in list_approvals(session, row.id)],
        ended_at=row.ended_at,
        analyses=list_analyses(session, row.id) if whole else [],
        timeline=_timeline(session, row.id) if whole else [],
    )


def rollout_etag(session: Session, row: Rollout) -> str:
    """Changes with each move, request and vote; not with what nodes and windows report meanwhile."""
    votes = [(vote.actor, vote.agrees) for vote in list_approvals(session, row.id)]
    return etag(row.id, row.phase, row.step, row.request, row.request_actor, votes)


def revision_short(revision: SettingsRevision) -> RevisionShort:
    return RevisionShort(
        number=revision.number, content_hash=revision.content_hash, settings=fleets.settings_of(revision)
    )


def list_analyses(session: Session, rollout_id: str) -> list[AnalysisOut]:
    """Newest first."""
    rows = session.scalars(select(Analysis).where(Analysis.rollout_id == rollout_id).order_by(Analysis.id.desc()))
    return [AnalysisOut.model_validate(row) for row in rows]


def _timeline(session: Session, rollout_id: str) -> list[EventOut]:
    rows = events.list_events(session, limit=TIMELINE, rollout_id=rollout_id)
    return [EventOut.model_validate(row) for row in reversed(rows)]


def _reached(session: Session, row: Rollout) -> RolloutPhase | None:
    """The phase that a pause or a way back began in."""
    if row.paused_from is not None:
        return RolloutPhase(row.paused_from)
    ended_by = (
        EventKind.ROLLOUT_ROLLING_BACK, EventKind.ROLLOUT_CANCELLED, EventKind.ROLLOUT_REJECTED,
        EventKind.ROLLOUT_EXPIRED, EventKind.ROLLOUT_SUPERSEDED,
    )  # fmt: skip
    query = select(Event.data).where(Event.rollout_id == row.id, Event.kind.in_(ended_by)).order_by(Event.id)
    data = session.scalars(query.limit(1)).first()
    if data is None:
        return None
    source = RolloutPhase(data["from"])
    if source is not RolloutPhase.PAUSED:
        return source
    paused = select(Event.data).where(Event.rollout_id == row.id, Event.kind == EventKind.ROLLOUT_PAUSED)
    before = session.scalars(paused.order_by(Event.id.desc()).limit(1)).first()
    return None if before is None else RolloutPhase(before["from"])


def _columns(part: RolloutNode) -> dict[str, Any]:
    names = ("node_id", "role", "wave", "state", "generation", "dispatched_at", "applied_at", "detail")
    values: dict[str, str | int | datetime | None] = {name: getattr(part, name) for name in names}
    return values
