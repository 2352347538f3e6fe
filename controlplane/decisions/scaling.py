"""How many nodes a pool needs: the load that decisions plan for over what a node carries, as the last decision saw both.

Settings come first, since they take effect in a second; nodes are what is left when settings cannot carry a load.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.models import DecisionRecord

# Of what a node can carry, so much is used: beyond it queues grow faster than the load. The same in `explain`.
UTILISATION = 0.8
# A decision so many ticks old says nothing of now.
STALE_TICKS = 4


@dataclass(frozen=True, slots=True)
class Advice:
    """`planned_rps` is the load that is planned for within the policy's horizon, `node_rps` what a node carries as it is set."""

    nodes_wanted: int
    nodes_ready: int
    planned_rps: float
    node_rps: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a pool's last decision saw ahead; nodes: those that it knew of, as its inputs hold them."""

    last_at: datetime
    reason: str
    explanation: str
    breach_probability: float | None
    forecast: dict[str, Any]
    nodes: list[dict[str, Any]]
    burn: dict[str, Any] | None = None


def read_outlook(session: Session, pool_id: str) -> Outlook | None:
    """None before the first decision. Of the inputs, which are tens of kB, the nodes alone are read."""
    columns = (
        DecisionRecord.last_at, DecisionRecord.reason, DecisionRecord.explanation, DecisionRecord.breach_probability,
        DecisionRecord.forecast, DecisionRecord.inputs["nodes"], DecisionRecord.burn,
    )  # fmt: skip
    newest = select(*columns).where(DecisionRecord.pool_id == pool_id)
    row = session.execute(newest.order_by(DecisionRecord.at.desc(), DecisionRecord.id.desc()).limit(1)).first()
    return None if row is None else Outlook(*row)


def is_stale(last: Outlook, now: datetime, tick_s: float) -> bool:
    return (now - last.last_at).total_seconds() > STALE_TICKS * tick_s


def advise(last: Outlook | None, now: datetime, tick_s: float) -> Advice | str:
    """The advice, or in words why there is none: a number that nothing stands behind would move machines."""
    if last is None:
        return "no decision was made for this pool yet"
    if is_stale(last, now, tick_s):
        age_s = (now - last.last_at).total_seconds()
        return f"the last decision is {age_s:.0f} s old: no controller decides for this pool now"
    planned, capacity = last.forecast.get("planned_rps"), last.forecast.get("capacity_rps")
    ready = sum(bool(node["ready"]) for node in last.nodes)
    if planned is None or not capacity or ready == 0:
        return f"load or capacity are not known ({last.reason}): {last.explanation}"
    node_rps = capacity / ready
    return Advice(max(1, math.ceil(planned / (UTILISATION * node_rps))), ready, planned, node_rps, last.last_at)
