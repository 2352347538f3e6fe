"""A policy tried on the past: each recorded decision made again from its own inputs, under another policy.

Each is judged by itself. What a change that was not made, or was made earlier, would have led to afterwards is not known.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome

# What proposes a change, to nodes or to people.
_PROPOSES = {Outcome.APPLY, Outcome.ADVISE}
MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Difference:
    record: DecisionRecord
    would: Decision


@dataclass(frozen=True, slots=True)
class Trial:
    """`differences` are the newest of `differing`."""

    looked_at: int
    proposed: int
    would_propose: int
    differing: int
    differences: tuple[Difference, ...]


def try_policy(
    records: Iterable[DecisionRecord],
    policy: Policy,
    version: int,
    *,
    limit_s: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Trial:
    """Goes through the records in their order until `limit_s` are over. version: what the policy would be saved as."""
    began = monotonic()
    looked_at = proposed = would_propose = differing = 0
    differences: list[Difference] = []
    for record in records:
        if looked_at and monotonic() - began > limit_s:
            break
        looked_at += 1
        inputs = replace(DecisionInputs.from_json(record.inputs), policy=policy, policy_version=version)
        would = decide(inputs)
        proposed += Outcome(record.outcome) in _PROPOSES
        would_propose += would.outcome in _PROPOSES
        if _is_other(record, would):
            differing += 1
            if len(differences) < MOST_SHOWN:
                differences.append(Difference(record, would))
    return Trial(looked_at, proposed, would_propose, differing, tuple(differences))


def since_of(now: datetime, hours: float) -> datetime:
    return datetime.fromtimestamp(now.timestamp() - 3600.0 * hours, now.tzinfo)


def _is_other(record: DecisionRecord, would: Decision) -> bool:
    """Another outcome, or other settings where a change is proposed. The words may differ."""
    if record.outcome != would.outcome.value:
        return True
    return would.outcome in _PROPOSES and record.chosen != would.to_json()["chosen"]
