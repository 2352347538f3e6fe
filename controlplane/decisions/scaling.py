"""How many nodes a pool needs: the load that decisions plan for over what a node carries, as the last decision saw both.

Settings come first, since they take effect in a second; nodes are what is left when settings cannot carry a load.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.guardrails import ready_nodes
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


def advise(last: DecisionRecord | None, now: datetime, tick_s: float) -> Advice | str:
    """The advice, or in words why there is none: a number that nothing stands behind would move machines."""
    if last is None:
        return "no decision was made for this pool yet"
    age_s = (now - last.last_at).total_seconds()
    if age_s > STALE_TICKS * tick_s:
        return f"the last decision is {age_s:.0f} s old: no controller decides for this pool now"
    planned, capacity = last.forecast.get("planned_rps"), last.forecast.get("capacity_rps")
    ready = ready_nodes(DecisionInputs.from_json(last.inputs))
    if planned is None or not capacity or ready == 0:
        return f"load or capacity are not known ({last.reason}): {last.explanation}"
    node_rps = capacity / ready
    return Advice(max(1, math.ceil(planned / (UTILISATION * node_rps))), ready, planned, node_rps, last.last_at)
