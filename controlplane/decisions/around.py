"""What decisions look at beside a pool's figures, for several pools at once: at a tick, queries for each would cost more than all
else that is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controlplane.decisions.admission import bare_hash
from controlplane.decisions.decision import PastChange
from controlplane.decisions.freezing import window_reason
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome, Trigger
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import GeneralFreeze, Pool
from inference_node.contract.settings import EngineSettings

_ENDS = (EventKind.ROLLOUT_COMPLETED.value, EventKind.ROLLOUT_ROLLED_BACK.value)
# Mode of rollouts by which people take a finished one back.
_LEADS_BACK = "direct"
# Of a decision, what is told of a change; its documents are tens of kB.
_OF_DECISION = (DecisionRecord.trigger, DecisionRecord.chosen)


@dataclass(frozen=True, slots=True)
class Around:
    """By pool: its changes lately, oldest first, and its alarms in words. general: the freeze of everything, if there is one."""

    changes: Mapping[str, tuple[PastChange, ...]]
    alarms: Mapping[str, str]
    general: GeneralFreeze | None

    @classmethod
    def read(cls, session: Session, policies: Mapping[str, Policy], now: datetime) -> Self:
        """policies: of all pools that are asked about."""
        return cls(
            past_changes(session, policies, now),
            fleets.alarms_of(session, policies, now),
            fleets.general_freeze(session),
        )

    def frozen_reason(self, pool: Pool, policy: Policy, now: datetime) -> str | None:
        """As `freezing.frozen_reason`."""
        return fleets.frozen_under(self.general, pool) or window_reason(policy, now)


def past_changes(session: Session, policies: Mapping[str, Policy], now: datetime) -> dict[str, tuple[PastChange, ...]]:
    """By pool: what changed lately, oldest first: decisions to apply, and rollouts (also people's) that ended."""
    since = {pool_id: now - timedelta(seconds=_looked_back_s(policy)) for pool_id, policy in policies.items()}
    first = min(since.values(), default=now)
    found: dict[str, list[PastChange]] = {pool_id: [] for pool_id in since}
    applied = select(DecisionRecord.pool_id, DecisionRecord.at, *_OF_DECISION).where(
        DecisionRecord.pool_id.in_(since), DecisionRecord.at > first, DecisionRecord.outcome == Outcome.APPLY.value
    )
    for row in session.execute(applied):
        found[row.pool_id].append(
            PastChange(at=row.at, trigger=Trigger(row.trigger), settings_hash=_hashes(row)[0], rolled_back=False)
        )
    ended = session.execute(
        select(Event.pool_id, Event.at, Event.kind, Event.decision_id, Event.rollout_id, Event.data).where(
            Event.pool_id.in_(since), Event.at > first, Event.kind.in_(_ENDS)
        )
    ).all()
    by_id, by_rollout = _decisions_of(session, ended)
    for event in ended:
        found[event.pool_id] += _ends(event, by_id.get(event.decision_id) or by_rollout.get(event.rollout_id))
    return {
        pool_id: tuple(sorted((each for each in changes if each.at > since[pool_id]), key=lambda each: each.at))
        for pool_id, changes in found.items()
    }


def _ends(event: Any, decision: Any | None) -> list[PastChange]:
    """What an end of a rollout says of the settings that it brought, and, where people went back, of those that they left.

    decision: what led to it, None for people's."""
    data = event.data
    brought = (data.get("settings_hash"), data.get("settings_bare_hash"))
    settings_hash, bare = brought if decision is None else _hashes(decision)
    end = PastChange(
        at=event.at,
        trigger=Trigger.TICK if decision is None else Trigger(decision.trigger),
        settings_hash=settings_hash,
        rolled_back=event.kind == EventKind.ROLLOUT_ROLLED_BACK.value,
        by_controller=False,  # the decision itself is counted beside it
        bare_hash=bare,
    )
    if decision is None and data.get("mode") == _LEADS_BACK and not end.rolled_back:
        left = replace(end, settings_hash=data.get("left_hash"), bare_hash=data.get("left_bare_hash"), rolled_back=True)
        return [end, left]
    return [end]


def _looked_back_s(policy: Policy) -> float:
    rails = policy.guardrails
    return max(3600.0, rails.rolled_back_hold_s, rails.cooldown_relaxing_s)


def _decisions_of(session: Session, ended: Sequence[Any]) -> tuple[dict[str | None, Any], dict[str | None, Any]]:
    """What led to the rollouts of these events: rows of _OF_DECISION, by the decision's own id and by the rollout's."""
    ids = {event.decision_id for event in ended if event.decision_id is not None}
    rollouts = {event.rollout_id for event in ended if event.rollout_id is not None}
    if not ids and not rollouts:
        return {}, {}
    query = select(DecisionRecord.id, DecisionRecord.rollout_id, *_OF_DECISION)
    rows = session.execute(query.where(or_(DecisionRecord.id.in_(ids), DecisionRecord.rollout_id.in_(rollouts)))).all()
    return {row.id: row for row in rows}, {row.rollout_id: row for row in rows if row.rollout_id is not None}


def _hashes(row: Any) -> tuple[str | None, str | None]:
    """Of what was chosen, with the limit of the queue and without."""
    if row.chosen is None:
        return None, None
    settings = EngineSettings.model_validate(row.chosen)
    return settings.content_hash(), bare_hash(settings)
