"""What came of a decision, for its page."""

from datetime import datetime, timedelta
from enum import StrEnum

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.decisions import service
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.effect import AFTER_S, effect_of
from controlplane.decisions.models import DecisionRecord
from controlplane.dependencies import Now, ReadSession
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.problem import declared
from controlplane.schemas import Out, UtcTime
from controlplane.telemetry import service as telemetry
from inference_node.contract.settings import EngineSettings

router = APIRouter(tags=["decisions"])

# From here on the pool's windows tell of other settings again.
_NEXT_CHANGE = (EventKind.ROLLOUT_CANARY_STARTED.value, EventKind.ROLLOUT_ROLLING_BACK.value)


class Standing(StrEnum):
    """How far a decision's effect is known."""

    NO_CHANGE = "no_change"
    NOT_IN_FORCE = "not_in_force"
    TOO_EARLY = "too_early"
    KNOWN = "known"


class CameOut(Out):
    """Seconds, or tokens per second."""

    metric: str
    without: float = Field(description="expected of the settings before, at the load that came")
    expected: float = Field(description="expected of the settings chosen, at the load that came")
    realised: float | None = Field(description="the median window's; null where nothing was measured")


class StretchOut(Out):
    after_s: float
    complete: bool = Field(description="false while it still runs, and where the next change cut it short")
    windows: int
    offered_rps: float = Field(description="mean of the load that came")
    came: list[CameOut]


class DecisionEffectOut(Out):
    """What was expected of a decision beside what came, from when its rollout completed."""

    decision_id: str
    standing: Standing
    in_force_at: UtcTime | None
    until: UtcTime | None = Field(description="when the next change began; null while it is in force")
    stretches: list[StretchOut]


@router.get(
    "/decisions/{decision_id}/effect",
    dependencies=[require(Role.VIEWER)],
    responses=declared(401, 403, 404, 422),
)
def get_decision_effect(decision_id: str, session: ReadSession, now: Now) -> DecisionEffectOut:
    """What was expected of the decision, and what came of it 5, 15 and 60 minutes after it was in force on all nodes."""
    row = service.get_decision(session, decision_id)
    if row.chosen is None or row.rollout_id is None:
        return DecisionEffectOut(
            decision_id=row.id, standing=Standing.NO_CHANGE, in_force_at=None, until=None, stretches=[]
        )
    start = _in_force_at(session, row)
    if start is None:
        return DecisionEffectOut(
            decision_id=row.id, standing=Standing.NOT_IN_FORCE, in_force_at=None, until=None, stretches=[]
        )
    ended = _next_change(session, row, start)
    until = min(ended or now, start + timedelta(seconds=AFTER_S[-1]))
    windows = telemetry.recent(session, row.pool_id, start, until)
    found = effect_of(
        DecisionInputs.from_json(row.inputs), EngineSettings.model_validate(row.chosen), windows, start, until
    )
    return DecisionEffectOut(
        decision_id=row.id,
        standing=Standing.KNOWN if found else Standing.TOO_EARLY,
        in_force_at=start,
        until=ended,
        stretches=[StretchOut.model_validate(stretch) for stretch in found],
    )


def _in_force_at(session: Session, row: DecisionRecord) -> datetime | None:
    """When its rollout had reached every node: it began to be watched there, or it completed."""
    reached = (EventKind.ROLLOUT_BAKING.value, EventKind.ROLLOUT_COMPLETED.value)
    query = select(Event.at).where(Event.rollout_id == row.rollout_id, Event.kind.in_(reached)).order_by(Event.id)
    return session.scalars(query.limit(1)).first()


def _next_change(session: Session, row: DecisionRecord, start: datetime) -> datetime | None:
    query = select(Event.at).where(Event.pool_id == row.pool_id, Event.at >= start, Event.kind.in_(_NEXT_CHANGE))
    return session.scalars(query.order_by(Event.id).limit(1)).first()
