"""The room's door, and decisions in SQL: read back, and made again exactly."""

import functools
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session, aliased, defer

from controlplane.decisions.around import Around as Around
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.error_budget import Ledger as Ledger
from controlplane.decisions.error_budget import Tally as Tally
from controlplane.decisions.freezing import frozen_reason as frozen_reason
from controlplane.decisions.gather import PoolFacts as PoolFacts
from controlplane.decisions.gather import learn as learn
from controlplane.decisions.gather import live_nodes as live_nodes
from controlplane.decisions.gather import make_inputs as make_inputs
from controlplane.decisions.gather import read_facts as read_facts
from controlplane.decisions.lineage import Lineages as Lineages
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policies import current_policies as current_policies
from controlplane.decisions.policies import current_policy as current_policy
from controlplane.decisions.policies import put_policy as put_policy
from controlplane.decisions.quality_books import TokenBook as TokenBook
from controlplane.decisions.quality_books import book_of as book_of
from controlplane.decisions.quality_books import spent_ratio as spent_ratio
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.recording import BREACH, BURN, RECORDED
from controlplane.decisions.recording import LastWords as LastWords
from controlplane.decisions.recording import record_decision as record_decision
from controlplane.decisions.step_memory.levels import PoolMemory as PoolMemory
from controlplane.decisions.step_memory.store import Memories as Memories
from controlplane.errors import NotFound
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets.models import Pool


def link_rollout(session: Session, decision_id: str, rollout_id: str) -> None:
    """Notes which rollout a decision led to."""
    get_decision(session, decision_id).rollout_id = rollout_id
    session.flush()


def get_decision(session: Session, decision_id: str) -> DecisionRecord:
    """Raises NotFound."""
    row = session.get(DecisionRecord, decision_id, options=[defer(DecisionRecord.inputs)])
    if row is None:
        raise NotFound(f"there is no decision with id {decision_id!r}: GET /api/v1/decisions lists them")
    return row


def latest_decision(session: Session, pool_id: str) -> DecisionRecord | None:
    return next(iter(list_decisions(session, pool_id=pool_id, limit=1)), None)


class LastDecision(NamedTuple):
    """What a pool's newest decision said."""

    pool_id: str
    id: str
    last_at: datetime
    outcome: str
    reason: str
    explanation: str
    breach_probability: float | None
    burn: dict[str, Any] | None


def latest_decisions(session: Session, pool_ids: Collection[str]) -> dict[str, LastDecision]:
    """By pool, in one query, of those that have one."""
    rows = session.execute(_latest(), {"pools": list(pool_ids)})
    return {row.pool_id: LastDecision(*row) for row in rows}


@functools.cache
def _latest() -> Select[Any]:
    each = aliased(DecisionRecord)
    newest = (
        select(each.id)
        .where(each.pool_id == Pool.id)
        .order_by(each.at.desc(), each.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    ids = select(newest).where(Pool.id.in_(bindparam("pools", expanding=True)))
    columns = (getattr(DecisionRecord, name) for name in LastDecision._fields)
    return select(*columns).where(DecisionRecord.id.in_(ids))


def burn_warning(session: Session, pool_id: str) -> str | None:
    """What people are told who change a pool whose error budget burns too fast for the controller to; they are not stopped."""
    newest = latest_decisions(session, [pool_id]).get(pool_id)
    burn = None if newest is None else newest.burn
    return (
        None
        if burn is None or not burn["freezes"]
        else f"{burn['detail']} The controller now changes only what protects."
    )


def list_decisions(
    session: Session,
    *,
    limit: int,
    pool_id: str | None = None,
    outcome: Outcome | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[DecisionRecord]:
    """Newest first; `before` is (at, id) of the last one of the page before."""
    # What a decision was made from is tens of kB, and shown nowhere: who wants to make it again has it read then.
    query = select(DecisionRecord).options(defer(DecisionRecord.inputs))
    query = query.order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(limit)
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
    identical = all(made[name] == getattr(record, name) for name in RECORDED)
    return identical, again


def pools_with_breach_in_sight(session: Session) -> set[str]:
    """Ids of the pools of which a breach was predicted and not yet cleared: of each, its newest word on it counts."""
    return _pools_told(session, BREACH, EventKind.FORECAST_BREACH_PREDICTED)


def pools_burning(session: Session) -> set[str]:
    """Ids of the pools whose error budget was said to burn too fast, and not yet to have recovered."""
    return _pools_told(session, BURN, EventKind.SLO_BURNING)


def _pools_told(session: Session, kinds: tuple[str, ...], of: EventKind) -> set[str]:
    newest = select(func.max(Event.id)).where(Event.kind.in_(kinds)).group_by(Event.pool_id)
    query = select(Event.pool_id).where(Event.id.in_(newest), Event.kind == of.value)
    return {pool_id for pool_id in session.scalars(query) if pool_id is not None}
