"""The stages of a rollout as people see them, each done, active, paused, failed, skipped or pending. Pure."""

from dataclasses import dataclass

from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.plan import Mode, RolloutPlan

P = RolloutPhase
_ORDER = {
    P.VALIDATING: 0,
    P.PENDING_APPROVAL: -1,  # nothing has begun
    P.SCHEDULED: -1,
    P.BASELINING: 0,
    P.CANARY: 1,
    P.ANALYZING: 2,
    P.PROMOTING: 3,
    P.BAKING: 4,
    P.COMPLETED: 5,
}
_BAKE = 4
_UNWOUND = {
    P.ROLLING_BACK, P.ROLLED_BACK, P.ROLLBACK_FAILED, P.REJECTED, P.CANCELLED, P.EXPIRED, P.SUPERSEDED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rung:
    """`nodes` counts those that change in it."""

    index: int
    name: str
    state: str
    nodes: int


def ladder(plan: RolloutPlan, phase: RolloutPhase, step: int, *, reached: RolloutPhase | None = None) -> list[Rung]:
    """reached: the last phase before a pause or the way back, where it is known; `step` is the wave."""
    stages = _stages(plan)
    at = _place(reached if phase is P.PAUSED or phase in _UNWOUND else phase, step)
    rungs = []
    for index, (name, nodes, place) in enumerate(stages):
        state = "pending"
        if place < at:
            state = "done"
        elif place == at:
            state = "paused" if phase is P.PAUSED else "failed" if phase in _UNWOUND else "active"
        elif phase in _UNWOUND:
            state = "skipped"
        rungs.append(Rung(index, name, state, nodes))
    return rungs


def _stages(plan: RolloutPlan) -> list[tuple[str, int, tuple[int, int]]]:
    """(name, nodes, place); places sort in the order in which they are passed."""
    waves = [(f"wave {k}", len(wave), (3, k)) for k, wave in enumerate(plan.waves, start=1)]
    if plan.mode is Mode.DIRECT:
        return [("all nodes", plan.nodes, (3, 1))]
    before = [("baseline", 0, (0, 0)), ("canary", len(plan.canary), (1, 0)), ("analysis", 0, (2, 0))]
    return [*before, *waves, ("bake", 0, (_BAKE, 0))]


def _place(phase: RolloutPhase | None, step: int) -> tuple[int, int]:
    order = 0 if phase is None else _ORDER.get(phase, 0)
    return (order, max(1, step) if order == _ORDER[P.PROMOTING] else 0)
