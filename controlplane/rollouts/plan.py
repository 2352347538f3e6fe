"""The stages of a rollout: which node is the canary, which one it is compared with, and the waves after it. Pure.

The plan is made once and kept with the rollout, policy included: a policy that is edited meanwhile counts for the next one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from controlplane.decisions.policy import Policy, RolloutPolicy, Slo
from controlplane.errors import Unavailable

# control-plane design 2.1: canary 5 %, at most 10 %; then 25, 50, 100 % of the pool.
CANARY_SHARE, CANARY_CAP, WAVES = 0.05, 0.10, (0.25, 0.5, 1.0)
UNREACHABLE_SHARE = 0.10


class NoNodeReady(Unavailable):
    title = "No node is ready"


class Mode(StrEnum):
    """canary: baseline, canary, analysis, waves, bake. direct: all nodes at once, the way back to what was known as good."""

    CANARY = "canary"
    DIRECT = "direct"


class Role(StrEnum):
    """Part of a node: control is what the canary is compared with until its own wave comes."""

    CANARY = "canary"
    CONTROL = "control"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node of the pool, as far as a plan needs it."""

    id: str
    name: str
    ready: bool


class RolloutPlan(BaseModel):
    """Node ids per stage. Wave 0 is the canary, `waves[k]` is wave k + 1."""

    model_config = ConfigDict(frozen=True)

    mode: Mode
    canary: tuple[str, ...]
    control: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]
    policy: RolloutPolicy
    slo: Slo

    @property
    def nodes(self) -> int:
        return len(self.canary) + sum(map(len, self.waves))

    @property
    def tolerated_unreachable(self) -> int:
        """Nodes other than the canary that may be silent without holding the rollout up; they follow when they are back."""
        return max(1, math.floor(UNREACHABLE_SHARE * self.nodes))

    def role_of(self, node_id: str) -> Role:
        if node_id in self.canary:
            return Role.CANARY
        return Role.CONTROL if node_id in self.control else Role.MEMBER

    def wave_of(self, node_id: str) -> int:
        """0 for the canary. Raises StopIteration for a node that is not part of the plan."""
        if node_id in self.canary:
            return 0
        return next(k for k, wave in enumerate(self.waves, start=1) if node_id in wave)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls.model_validate(data)


def make_plan(nodes: Sequence[Candidate], policy: Policy, mode: Mode = Mode.CANARY) -> RolloutPlan:
    """Raises NoNodeReady when there is no node that could be the canary."""
    ordered = sorted(nodes, key=lambda node: (not node.ready, node.name, node.id))
    ready = [node.id for node in ordered if node.ready]
    if not ready:
        names = ", ".join(node.name for node in ordered) or "none"
        raise NoNodeReady(
            f"no node of the pool is ready to take a change (nodes: {names}): wait for one, then try again"
        )
    ids = [node.id for node in ordered]
    if mode is Mode.DIRECT:
        return RolloutPlan(mode=mode, canary=(), control=(), waves=(tuple(ids),), policy=policy.rollout, slo=policy.slo)
    size = min(canary_size(len(ids)), len(ready))
    canary, rest = ready[:size], [node for node in ids if node not in ready[:size]]
    control = ready[size : 2 * size]
    # The control goes last: for as long as it can, it shows what would have been without the change.
    rest.sort(key=lambda node: node in control)
    waves = _waves(rest, len(ids), size)
    return RolloutPlan(
        mode=mode, canary=tuple(canary), control=tuple(control), waves=waves, policy=policy.rollout, slo=policy.slo
    )


def canary_size(nodes: int) -> int:
    """5 % of the nodes, at most 10 %, at least one."""
    return max(1, min(math.ceil(CANARY_SHARE * nodes), math.floor(CANARY_CAP * nodes)))


def _waves(rest: Sequence[str], total: int, canaries: int) -> tuple[tuple[str, ...], ...]:
    found: list[tuple[str, ...]] = []
    done = 0
    for share in WAVES:
        until = max(0, math.ceil(share * total) - canaries)
        if until > done:
            found.append(tuple(rest[done:until]))
            done = until
    return tuple(found)
