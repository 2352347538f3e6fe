"""Writes a decision down with everything it was made from, and tells of what is new in it.

A decision that says the same as the one before is that row again, and most do: what they are held against is remembered from tick
to tick, and they are one UPDATE.
"""

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Update, bindparam, select, update
from sqlalchemy.orm import Session

from controlplane.db import rows_matched, table_of
from controlplane.decisions import explain_burn
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.error_budget import Burn, burn_of
from controlplane.decisions.explain import CAPACITY_INSUFFICIENT
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.scaling import Outlook, advise
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import Event
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.service import save_forecasts
from controlplane.ids import new_id
from controlplane.version import program_version

BREACH = (EventKind.FORECAST_BREACH_PREDICTED.value, EventKind.FORECAST_BREACH_CLEARED.value)
_CAPACITY = (EventKind.CAPACITY_INSUFFICIENT.value, EventKind.CAPACITY_SUFFICIENT.value)
BURN = (EventKind.SLO_BURNING.value, EventKind.SLO_RECOVERED.value)
# Of the decision as JSON, what its row holds.
RECORDED = (
    "outcome", "reason", "trigger", "explanation", "mode", "previous", "chosen", "breach_probability",
    "forecast", "candidates", "constraints",
)  # fmt: skip
_SAME = ("outcome", "reason", "trigger", "previous", "chosen")
# The decision is the one that was just made.
_AT_ONCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a pool's newest decision said (row_id None: none yet), and what people were told of the pool and still holds."""

    row_id: str | None
    words: tuple[Any, ...]
    breach_in_sight: bool
    is_short: bool
    is_burning: bool


class LastWords:
    """What was said of each pool while this process leads it without a break: in another epoch somebody else may have decided.

    Not thread-safe. `forget` after a transaction that failed: what was remembered in it is not so.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, Said]] = {}

    def of(self, session: Session, pool_id: str, epoch: int) -> Said:
        of_epoch, said = self._of.get(pool_id, (None, None))
        return said if said is not None and of_epoch == epoch else read_said(session, pool_id)

    def remember(self, pool_id: str, epoch: int, said: Said) -> None:
        self._of[pool_id] = (epoch, said)

    def forget(self, pool_id: str) -> None:
        self._of.pop(pool_id, None)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


def read_said(session: Session, pool_id: str) -> Said:
    """As SQL has it. The large documents of a decision, tens of kB, are not read."""
    columns = (getattr(DecisionRecord, name) for name in _SAME)
    newest = select(DecisionRecord.id, *columns).where(DecisionRecord.pool_id == pool_id)
    row = session.execute(newest.order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(1)).first()
    return Said(
        row_id=None if row is None else row[0],
        words=() if row is None else tuple(row[1:]),
        breach_in_sight=_newest_of(session, pool_id, BREACH) == EventKind.FORECAST_BREACH_PREDICTED.value,
        is_short=_newest_of(session, pool_id, _CAPACITY) == EventKind.CAPACITY_INSUFFICIENT.value,
        is_burning=_newest_of(session, pool_id, BURN) == EventKind.SLO_BURNING.value,
    )


def record_decision(
    session: Session,
    decision: Decision,
    *,
    pool_id: str,
    inputs: DecisionInputs,
    epoch: int,
    actor: str = "controller",
    memory: LastWords | None = None,
) -> str:
    """Keeps the decision, its forecasts and what it was made from; tells of it where something is new. Returns its row's id.

    A decision other than APPLY that says the same as the pool's last one (outcome, reason, settings) is that row again: `repeats`
    and `last_at` grow, and the rest shows the newest of them, still replayable. memory: what it keeps of the pool's last words.
    """
    last = read_said(session, pool_id) if memory is None else memory.of(session, pool_id, epoch)
    save_forecasts(session, pool_id, _forecasts(decision, inputs))
    made = decision.to_json()
    burn = burn_of(inputs.served, inputs.policy)
    row = {name: made[name] for name in RECORDED} | {
        "burn": burn_json(burn, inputs.policy), "inputs": inputs.to_json(), "actor": actor, "epoch": epoch,
        "code_version": program_version(), "last_at": decision.at,
    }  # fmt: skip
    words = tuple(made[name] for name in _SAME)
    row_id = last.row_id if words == last.words and decision.outcome is not Outcome.APPLY else None
    if row_id is None or not _repeat(session, row_id, row):
        row_id = _add(session, pool_id, decision, row, actor)
    said = replace(last, row_id=row_id, words=words)
    said = _tell_breach(session, decision, inputs, pool_id, said)
    said = _tell_capacity(session, decision, inputs, pool_id, said, row)
    said = _tell_burn(session, burn, inputs, pool_id, said)
    if memory is not None:
        memory.remember(pool_id, epoch, said)
    return row_id


def burn_json(burn: Burn, policy: Policy) -> dict[str, Any]:
    """With what follows from it, for readers that have no policy at hand."""
    return asdict(burn) | {"freezes": burn.freezes, "detail": explain_burn.said(burn, policy)}


def _repeat(session: Session, row_id: str, row: dict[str, Any]) -> bool:
    """Whether the row was there to be written over."""
    session.flush()
    given = {f"new_{name}": value for name, value in row.items()}
    return rows_matched(session.execute(_again(), {"row_id": row_id, **given})) == 1


@functools.cache
def _again() -> Update:
    table = table_of(DecisionRecord)
    names = (*RECORDED, "burn", "inputs", "actor", "epoch", "code_version", "last_at")
    new = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    return update(table).where(table.c.id == bindparam("row_id")).values(repeats=table.c.repeats + 1, **new)


def _add(session: Session, pool_id: str, decision: Decision, row: dict[str, Any], actor: str) -> str:
    row_id = new_id()
    session.add(DecisionRecord(id=row_id, pool_id=pool_id, at=decision.at, repeats=1, rollout_id=None, **row))
    session.flush()
    events.record(
        session,
        kind=EventKind.DECISION_MADE,
        message=f"{decision.outcome.value} ({decision.reason.value}): {decision.explanation}",
        at=decision.at,
        actor=actor,
        pool_id=pool_id,
        decision_id=row_id,
        data={"outcome": decision.outcome.value, "reason": decision.reason.value, "trigger": decision.trigger.value},
    )
    return row_id


def _forecasts(decision: Decision, inputs: DecisionInputs) -> list[Forecast]:
    """What to keep: of the latencies the projection where there is one, else the series' own forecast."""
    kept = inputs.forecasts | {projection.metric: projection for projection in decision.projections}
    return list(kept.values())


def _newest_of(session: Session, pool_id: str, kinds: tuple[str, ...]) -> str | None:
    query = select(Event.kind).where(Event.pool_id == pool_id, Event.kind.in_(kinds)).order_by(Event.id.desc())
    return session.scalars(query.limit(1)).first()


def _tell_breach(session: Session, decision: Decision, inputs: DecisionInputs, pool_id: str, said: Said) -> Said:
    """An event when a breach comes into sight, and one when it is gone: at half the threshold, so that it does not flicker."""
    probability = decision.breach_probability
    if probability is None:
        return said
    threshold = inputs.policy.objective.breach_probability
    if not said.breach_in_sight and probability >= threshold:
        kind, severity = EventKind.FORECAST_BREACH_PREDICTED, Severity.WARNING
        message = f"An SLO breach is predicted with probability {probability:.2f}. {decision.explanation}"
    elif said.breach_in_sight and probability < threshold / 2:
        kind, severity = EventKind.FORECAST_BREACH_CLEARED, Severity.INFO
        message = f"No SLO breach in sight any more (probability {probability:.2f})."
    else:
        return said
    events.record(
        session,
        kind=kind,
        severity=severity,
        message=message,
        at=decision.at,
        actor="forecast",
        pool_id=pool_id,
        decision_id=said.row_id,
        data={"probability": probability, "breach_in_s": decision.forecast.get("breach_in_s")},
    )
    return replace(said, breach_in_sight=kind is EventKind.FORECAST_BREACH_PREDICTED)


def _tell_capacity(
    session: Session, decision: Decision, inputs: DecisionInputs, pool_id: str, said: Said, row: dict[str, Any]
) -> Said:
    """An event when settings alone no longer carry the load, with the number of nodes that would; another when they do again.

    Nothing is said while nothing is known: a decision without a probability was made without a look at the load.
    """
    if decision.breach_probability is None:
        return said
    shortage = next((each for each in decision.constraints if each.name == CAPACITY_INSUFFICIENT), None)
    calm = decision.breach_probability < inputs.policy.objective.breach_probability / 2
    if shortage is not None and not said.is_short:
        outlook = Outlook(
            decision.at, decision.reason.value, decision.explanation, decision.breach_probability, row["forecast"],
            row["inputs"]["nodes"],
        )  # fmt: skip
        advice = advise(outlook, decision.at, _AT_ONCE_S)
        events.record(
            session,
            kind=EventKind.CAPACITY_INSUFFICIENT,
            severity=Severity.WARNING,
            message=shortage.detail,
            at=decision.at,
            actor="controller",
            pool_id=pool_id,
            decision_id=said.row_id,
            data={}
            if isinstance(advice, str)
            else {"nodes_ready": advice.nodes_ready, "nodes_wanted": advice.nodes_wanted},
        )
        return replace(said, is_short=True)
    if shortage is None and said.is_short and calm:
        events.record(
            session,
            kind=EventKind.CAPACITY_SUFFICIENT,
            message="The settings in force carry the load again.",
            at=decision.at,
            actor="controller",
            pool_id=pool_id,
            decision_id=said.row_id,
        )
        return replace(said, is_short=False)
    return said


def _tell_burn(session: Session, burn: Burn, inputs: DecisionInputs, pool_id: str, said: Said) -> Said:
    """An event when the error budget begins to burn faster than the policy allows, and one when it burns at half that or less.

    Nothing is said while nothing is known.
    """
    if burn.freezes and not said.is_burning:
        kind, severity, message = EventKind.SLO_BURNING, Severity.WARNING, explain_burn.blocked(burn, inputs.policy)
    elif said.is_burning and burn.is_over:
        kind, severity, message = EventKind.SLO_RECOVERED, Severity.INFO, explain_burn.over(burn, inputs.policy)
    else:
        return said
    events.record(
        session,
        kind=kind,
        severity=severity,
        message=message,
        at=inputs.now,
        actor="controller",
        pool_id=pool_id,
        decision_id=said.row_id,
        data={"burn_rate": burn.rate, "limit": burn.limit, "worst": burn.worst, "bad_ratio": burn.bad_ratio,
              "window_s": burn.window_s, "known_ratio": burn.known_ratio},
    )  # fmt: skip
    return replace(said, is_burning=kind is EventKind.SLO_BURNING)
