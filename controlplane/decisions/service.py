"""Decisions in SQL: recorded with everything they were made from, read back, and made again exactly."""

import functools
from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session, aliased, defer

from controlplane.decisions.around import Around as Around
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.explain import CAPACITY_INSUFFICIENT
from controlplane.decisions.freezing import frozen_reason as frozen_reason
from controlplane.decisions.gather import PoolFacts as PoolFacts
from controlplane.decisions.gather import live_nodes as live_nodes
from controlplane.decisions.gather import make_inputs as make_inputs
from controlplane.decisions.gather import read_facts as read_facts
from controlplane.decisions.lineage import Lineages as Lineages
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policies import current_policies as current_policies
from controlplane.decisions.policies import current_policy as current_policy
from controlplane.decisions.policies import put_policy as put_policy
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.scaling import Outlook, advise
from controlplane.errors import NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import Event
from controlplane.fleets.models import Pool
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.service import save_forecasts
from controlplane.version import program_version

_BREACH = (EventKind.FORECAST_BREACH_PREDICTED.value, EventKind.FORECAST_BREACH_CLEARED.value)
_CAPACITY = (EventKind.CAPACITY_INSUFFICIENT.value, EventKind.CAPACITY_SUFFICIENT.value)
# The decision is the one that was just made.
_AT_ONCE_S = 60.0
_RECORDED = ("outcome", "reason", "trigger", "explanation", "mode", "previous", "chosen", "breach_probability")
_RECORDED_PARTS = ("forecast", "candidates", "constraints")


def record_decision(
    session: Session,
    decision: Decision,
    *,
    pool_id: str,
    inputs: DecisionInputs,
    epoch: int,
    actor: str = "controller",
) -> DecisionRecord:
    """Keeps the decision, its forecasts and what it was made from; tells of it where something is new.

    A decision other than APPLY that says the same as the pool's last one (outcome, reason, settings) is that row again: `repeats`
    and `last_at` grow, and the rest shows the newest of them, still replayable.
    """
    save_forecasts(session, pool_id, _forecasts(decision, inputs))
    last = _last_said(session, pool_id)
    if last is not None and _says_the_same(last, decision):
        last.repeats += 1
        last.last_at = decision.at
        _fill(last, decision, inputs, epoch, actor)
        session.flush()
        _tell_breach(session, decision, inputs, pool_id, last)
        _tell_capacity(session, decision, inputs, pool_id, last)
        return last
    row = DecisionRecord(pool_id=pool_id, at=decision.at, last_at=decision.at, repeats=1, rollout_id=None)
    _fill(row, decision, inputs, epoch, actor)
    session.add(row)
    session.flush()
    events.record(
        session,
        kind=EventKind.DECISION_MADE,
        message=f"{decision.outcome.value} ({decision.reason.value}): {decision.explanation}",
        at=decision.at,
        actor=actor,
        pool_id=pool_id,
        decision_id=row.id,
        data={"outcome": decision.outcome.value, "reason": decision.reason.value, "trigger": decision.trigger.value},
    )
    _tell_breach(session, decision, inputs, pool_id, row)
    _tell_capacity(session, decision, inputs, pool_id, row)
    return row


def _last_said(session: Session, pool_id: str) -> DecisionRecord | None:
    """The newest decision without its large documents, which are tens of kB: they are written over or left alone, never read."""
    found: DecisionRecord | None = session.scalars(_last(), {"pool_id": pool_id}).first()
    return found


@functools.cache
def _last() -> Select[DecisionRecord]:
    large = (DecisionRecord.inputs, DecisionRecord.candidates, DecisionRecord.forecast, DecisionRecord.constraints)
    query = select(DecisionRecord).where(DecisionRecord.pool_id == bindparam("pool_id"))
    newest = query.order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(1)
    return newest.options(*(defer(column) for column in large))


def link_rollout(session: Session, decision_id: str, rollout_id: str) -> None:
    """Notes which rollout a decision led to."""
    get_decision(session, decision_id).rollout_id = rollout_id
    session.flush()


def get_decision(session: Session, decision_id: str) -> DecisionRecord:
    """Raises NotFound."""
    row = session.get(DecisionRecord, decision_id)
    if row is None:
        raise NotFound(f"there is no decision with id {decision_id!r}: GET /api/v1/decisions lists them")
    return row


def latest_decision(session: Session, pool_id: str) -> DecisionRecord | None:
    return next(iter(list_decisions(session, pool_id=pool_id, limit=1)), None)


def latest_decisions(session: Session, pool_ids: Collection[str]) -> dict[str, DecisionRecord]:
    """By pool, in one query: its newest decision, without what it was made from, of those that have one."""
    each = aliased(DecisionRecord)
    newest = (
        select(each.id)
        .where(each.pool_id == Pool.id)
        .order_by(each.at.desc(), each.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = select(DecisionRecord).where(DecisionRecord.id.in_(select(newest).where(Pool.id.in_(pool_ids))))
    parts = (DecisionRecord.inputs, DecisionRecord.forecast, DecisionRecord.candidates, DecisionRecord.constraints)
    return {row.pool_id: row for row in session.scalars(query.options(*(defer(part) for part in parts)))}


def list_decisions(
    session: Session,
    *,
    limit: int,
    pool_id: str | None = None,
    outcome: Outcome | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[DecisionRecord]:
    """Newest first; `before` is (at, id) of the last one of the page before."""
    query = select(DecisionRecord).order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(limit)
    if pool_id is not None:
        query = query.where(DecisionRecord.pool_id == pool_id)
    if outcome is not None:
        query = query.where(DecisionRecord.outcome == outcome.value)
    if before is not None:
        at, row_id = before
        query = query.where(
            (DecisionRecord.at < at) | ((DecisionRecord.at == at) & (DecisionRecord.id < row_id)),
        )
    return list(session.scalars(query))


def count_since(session: Session, pool_id: str, since: datetime) -> int:
    """How many rows `decisions_since` gives."""
    query = select(func.count()).where(DecisionRecord.pool_id == pool_id, DecisionRecord.last_at >= since)
    return session.scalar(query) or 0


def decisions_since(session: Session, pool_id: str, since: datetime) -> Iterator[DecisionRecord]:
    """Those last made since then, newest first, read as they are asked for: each holds tens of kB."""
    query = select(DecisionRecord).where(DecisionRecord.pool_id == pool_id, DecisionRecord.last_at >= since)
    newest_first = query.order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc())
    return iter(session.scalars(newest_first.execution_options(yield_per=25)))


def replay(record: DecisionRecord) -> tuple[bool, Decision]:
    """Decides again from the recorded inputs: (whether everything that was recorded comes out the same, the decision)."""
    again = decide(DecisionInputs.from_json(record.inputs))
    made = again.to_json()
    identical = all(made[name] == getattr(record, name) for name in (*_RECORDED, *_RECORDED_PARTS))
    return identical, again


def _fill(row: DecisionRecord, decision: Decision, inputs: DecisionInputs, epoch: int, actor: str) -> None:
    made = decision.to_json()
    for name in (*_RECORDED, *_RECORDED_PARTS):
        setattr(row, name, made[name])
    row.inputs = inputs.to_json()
    row.actor = actor
    row.epoch = epoch
    row.code_version = program_version()


def _says_the_same(last: DecisionRecord, decision: Decision) -> bool:
    made = decision.to_json()
    same = all(getattr(last, name) == made[name] for name in ("outcome", "reason", "trigger", "previous", "chosen"))
    return same and decision.outcome is not Outcome.APPLY


def _forecasts(decision: Decision, inputs: DecisionInputs) -> list[Forecast]:
    """What to keep: of the latencies the projection where there is one, else the series' own forecast."""
    kept = inputs.forecasts | {projection.metric: projection for projection in decision.projections}
    return list(kept.values())


def _tell_breach(
    session: Session, decision: Decision, inputs: DecisionInputs, pool_id: str, row: DecisionRecord
) -> None:
    """An event when a breach comes into sight, and one when it is gone: at half the threshold, so that it does not flicker."""
    probability = decision.breach_probability
    if probability is None:
        return
    threshold = inputs.policy.objective.breach_probability
    query = select(Event.kind).where(Event.pool_id == pool_id, Event.kind.in_(_BREACH)).order_by(Event.id.desc())
    in_sight = session.scalars(query.limit(1)).first() == EventKind.FORECAST_BREACH_PREDICTED.value
    if not in_sight and probability >= threshold:
        kind, severity = EventKind.FORECAST_BREACH_PREDICTED, Severity.WARNING
        message = f"An SLO breach is predicted with probability {probability:.2f}. {decision.explanation}"
    elif in_sight and probability < threshold / 2:
        kind, severity = EventKind.FORECAST_BREACH_CLEARED, Severity.INFO
        message = f"No SLO breach in sight any more (probability {probability:.2f})."
    else:
        return
    events.record(
        session,
        kind=kind,
        severity=severity,
        message=message,
        at=decision.at,
        actor="forecast",
        pool_id=pool_id,
        decision_id=row.id,
        data={"probability": probability, "breach_in_s": decision.forecast.get("breach_in_s")},
    )


def _tell_capacity(
    session: Session, decision: Decision, inputs: DecisionInputs, pool_id: str, row: DecisionRecord
) -> None:
    """An event when settings alone no longer carry the load, with the number of nodes that would; another when they do again.

    Nothing is said while nothing is known: a decision without a probability was made without a look at the load.
    """
    if decision.breach_probability is None:
        return
    shortage = next((each for each in decision.constraints if each.name == CAPACITY_INSUFFICIENT), None)
    query = select(Event.kind).where(Event.pool_id == pool_id, Event.kind.in_(_CAPACITY)).order_by(Event.id.desc())
    is_short = session.scalars(query.limit(1)).first() == EventKind.CAPACITY_INSUFFICIENT.value
    calm = decision.breach_probability < inputs.policy.objective.breach_probability / 2
    if shortage is not None and not is_short:
        advice = advise(Outlook.of(row), decision.at, _AT_ONCE_S)
        events.record(
            session,
            kind=EventKind.CAPACITY_INSUFFICIENT,
            severity=Severity.WARNING,
            message=shortage.detail,
            at=decision.at,
            actor="controller",
            pool_id=pool_id,
            decision_id=row.id,
            data={}
            if isinstance(advice, str)
            else {"nodes_ready": advice.nodes_ready, "nodes_wanted": advice.nodes_wanted},
        )
    elif shortage is None and is_short and calm:
        events.record(
            session,
            kind=EventKind.CAPACITY_SUFFICIENT,
            message="The settings in force carry the load again.",
            at=decision.at,
            actor="controller",
            pool_id=pool_id,
            decision_id=row.id,
        )


def pools_with_breach_in_sight(session: Session) -> set[str]:
    """Ids of the pools of which a breach was predicted and not yet cleared: of each, its newest word on it counts."""
    newest = select(func.max(Event.id)).where(Event.kind.in_(_BREACH)).group_by(Event.pool_id)
    predicted = Event.kind == EventKind.FORECAST_BREACH_PREDICTED.value
    query = select(Event.pool_id).where(Event.id.in_(newest), predicted)
    return {pool_id for pool_id in session.scalars(query) if pool_id is not None}
