"""How a pool's requests are shared out between old and new settings. Pure.

Traffic follows settings: a node belongs to the canary arm once it has confirmed the new ones, and leaves it once it has
confirmed the old ones again. So a repeated, late or lost look comes to the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from controlplane.decisions.mesh_policy import MeshPolicy
from controlplane.rollouts.phases import NodeState, RolloutPhase

WHOLE = 100
# It has, or may have, the new settings.
_CHANGED = {NodeState.APPLIED, NodeState.REVERTING}
# Its wave does not wait for it.
_LEFT_OUT = {NodeState.QUARANTINED, NodeState.REJECTED, NodeState.UNREACHABLE}


class Arm(StrEnum):
    BASELINE = "baseline"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the pool. `wave` and `state` are None for one that has no part in the rollout."""

    name: str
    reachable: bool = True
    wave: int | None = None
    state: NodeState | None = None

    @property
    def arm(self) -> Arm:
        return Arm.CANARY if self.state in _CHANGED else Arm.BASELINE


@dataclass(frozen=True, slots=True)
class Split:
    """Percent of the requests for the canary arm (the rest is the baseline's), each node's arm, and why."""

    canary_weight: int
    arms: dict[str, Arm]
    why: str

    @property
    def baseline_weight(self) -> int:
        return WHOLE - self.canary_weight

    def names(self, arm: Arm) -> list[str]:
        return sorted(name for name, its in self.arms.items() if its is arm)


def split(places: Sequence[Place], phase: RolloutPhase | None, mesh: MeshPolicy, *, direct: bool = False) -> Split:
    """phase: of the rollout under way, None without one; direct: it goes to all nodes at once, and there is no canary arm."""
    if phase is None or phase.is_terminal or direct:
        return Split(0, {place.name: Arm.BASELINE for place in places}, "no canary is under way")
    arms = {place.name: place.arm for place in places}
    canary = [place for place in places if place.arm is Arm.CANARY]
    baseline = [place for place in places if place.arm is Arm.BASELINE]
    if not canary:
        return Split(0, arms, "no node has the new settings yet, or any more")
    if not baseline:
        return Split(WHOLE, arms, "all nodes have the new settings")
    fair = _fair(canary, baseline)
    if phase is RolloutPhase.ROLLING_BACK:
        if len(baseline) >= mesh.abort_baseline_ratio * len(places):
            return Split(0, arms, "rolling back: nodes on the old settings take all requests")
        return Split(fair, arms, "rolling back: too few nodes are back to take all requests, so these follow the nodes")
    if not mesh.step_weights:
        return Split(fair, arms, f"{len(canary)} of {len(places)} nodes have the new settings")
    wave = _through(places)
    weight = 0 if wave is None else mesh.step_weights[min(wave, len(mesh.step_weights) - 1)]
    there = (
        "the canary is not through yet"
        if wave is None
        else "the canary is through"
        if wave == 0
        else f"wave {wave} is through"
    )
    return Split(weight, arms, f"{there}: the policy's weight for it")


def _fair(canary: Sequence[Place], baseline: Sequence[Place]) -> int:
    """The canary arm's share of the nodes that can be reached, at least 1 and at most 99 percent; 0 when none of its can be."""
    ours, theirs = (sum(place.reachable for place in arm) for arm in (canary, baseline))
    if ours == 0 and theirs > 0:
        return 0
    if theirs == 0:  # nobody is known to be there: by number then
        ours, theirs = len(canary), len(baseline)
    return min(WHOLE - 1, max(1, math.floor(WHOLE * ours / (ours + theirs) + 0.5)))


def _through(places: Sequence[Place]) -> int | None:
    """The last wave up to which every node that can has the new settings; 0 is the canary, None is none."""
    parts = [place for place in places if place.wave is not None and place.state not in _LEFT_OUT]
    waves = sorted({place.wave for place in parts if place.wave is not None})
    last: int | None = None
    for wave in waves:
        if not all(place.arm is Arm.CANARY for place in parts if place.wave == wave):
            break
        last = wave
    return last
