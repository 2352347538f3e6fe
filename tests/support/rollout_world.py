"""A rollout and its nodes in memory: carries out what `reconcile()` orders, as `execute.py` does in SQL; nodes answer."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controlplane.rollouts.actions import Answer, Dispatch, Move, NextWave, NodeMove, Note, Replan, Step
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.phases import NodeState, RolloutPhase, Verb, is_legal
from controlplane.rollouts.plan import RolloutPlan
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from controlplane.rollouts.windows import due
from controlplane.telemetry.observation import Observation
from tests.support.arms import START, window

OLD, NEW = "hash-old", "hash-new"
WindowOf = Callable[[NodeView, datetime], Observation]


def rollout(plan: RolloutPlan, phase: RolloutPhase = RolloutPhase.VALIDATING, **changes: object) -> RolloutSnapshot:
    """A rollout of max_batch_size 4 -> 8 that was created at START, on nodes that are ready and run the old settings."""
    ids = [*plan.canary, *(node_id for wave in plan.waves for node_id in wave)]
    fields: dict[str, object] = {
        "id": "rollout-1", "pool_id": "pool-1", "phase": phase, "phase_since": START, "version": 1, "step": 0, "plan": plan,
        "from_hash": OLD, "to_hash": NEW, "from_number": 1, "to_number": 2, "changes": {"max_batch_size": (4, 8)},
        "nodes": tuple(node(plan, node_id) for node_id in ids), "steady_since": START - timedelta(hours=1),
    }  # fmt: skip
    return RolloutSnapshot(**(fields | changes))  # type: ignore[arg-type]  # tests name real fields


def node(plan: RolloutPlan, node_id: str) -> NodeView:
    return NodeView(
        id=node_id, name=node_id.removesuffix("-id"), role=plan.role_of(node_id), wave=plan.wave_of(node_id),
        state=NodeState.PENDING, generation=None, dispatched_at=None, applied_at=None, instance_at_dispatch=None,
        instance_id="first-life", reachable=True, ready=True, observed_generation=1, observed_hash=OLD,
    )  # fmt: skip


def calm(node: NodeView, end: datetime) -> Observation:
    """A window in which the settings make no difference."""
    return window(end)


@dataclass(slots=True)
class RolloutWorld:
    """Time, one rollout, and the nodes' side of it. `log` holds every move, as (from, to, message)."""

    snapshot: RolloutSnapshot
    now: datetime = START
    measure: WindowOf | None = calm
    log: list[tuple[RolloutPhase, RolloutPhase, str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    outcome: str | None = None
    _generation: int = 1

    @property
    def phase(self) -> RolloutPhase:
        return self.snapshot.phase

    def is_in(self, phase: RolloutPhase) -> bool:
        return self.phase is phase

    def step(self) -> Step:
        """Measures what is due, reconciles once, and carries it out."""
        self.fetch()
        step = reconcile(self.snapshot, self.now)
        self.carry_out(step)
        return step

    def run(self, seconds: float, *, answer: bool = True, until: RolloutPhase | None = None) -> None:
        """Lets time pass in steps of one second; nodes take what they are sent at once, if they may answer."""
        for _ in range(round(seconds)):
            if until is not None and self.phase is until:
                return
            self.step()
            if answer:
                self.nodes_apply()
            self.now += timedelta(seconds=1)

    def settle(self, *, answer: bool) -> None:
        """Until it has ended, or has been paused for so long that only something from outside can lift it."""
        paused = 0
        for _ in range(300):  # 1500 s: longer than all deadlines of a plan together
            if self.phase.is_terminal or paused > 20:
                return
            self.step()
            if answer:
                self.nodes_apply()
            self.now += timedelta(seconds=5)
            paused = paused + 1 if self.phase is RolloutPhase.PAUSED else 0

    def fetch(self) -> None:
        if self.measure is None:
            return
        windows = {node_id: list(seen) for node_id, seen in self.snapshot.windows.items()}
        for end in due(self.snapshot, self.now):
            for view in self.snapshot.nodes:
                windows.setdefault(view.id, []).append(self.measure(view, end))
        self.snapshot = self.snapshot.with_windows(windows)

    def nodes_apply(self) -> None:
        """Every node that is reachable and does not refuse reports what it was sent."""
        for view in self.snapshot.nodes:
            if view.touched and view.reachable and view.refusal is None:
                self.change(view.id, observed_generation=view.generation, observed_hash=self._wish(view))

    def change(self, node_id: str, **changes: object) -> None:
        nodes = tuple(
            replace(view, **changes) if view.id == node_id else view  # type: ignore[arg-type]
            for view in self.snapshot.nodes
        )
        self.snapshot = replace(self.snapshot, nodes=nodes)

    def ask(self, verb: Verb, actor: str = "alice") -> None:
        self.snapshot = replace(self.snapshot, request=verb, request_actor=actor)

    def carry_out(self, step: Step) -> None:
        assert sum(isinstance(action, Move) for action in step.actions) <= 1
        if step.actions:
            self.snapshot = replace(self.snapshot, version=self.snapshot.version + 1)
        for action in step.actions:
            match action:
                case Move():
                    self._move(action)
                case NextWave():
                    self.snapshot = replace(self.snapshot, step=action.step)
                case Dispatch():
                    self._dispatch(action)
                case NodeMove():
                    applied = {"applied_at": self.now} if action.state is NodeState.APPLIED else {}
                    self.change(action.node_id, state=action.state, **applied)
                case Replan():
                    pass  # the same nodes again
                case Note():
                    self.verdicts.append(action.report.verdict)
                    looks = self.snapshot.looks + (action.report.verdict is not Verdict.ERROR)
                    self.snapshot = replace(self.snapshot, looks=looks)
                case Answer():
                    self.snapshot = replace(self.snapshot, request=None)
                    if action.refused is not None:
                        self.refusals.append(action.refused)

    def _move(self, move: Move) -> None:
        assert is_legal(self.phase, move.to), f"{self.phase} -> {move.to}: {move.message}"
        self.log.append((self.phase, move.to, move.message))
        self.outcome = move.outcome or self.outcome
        self.snapshot = replace(
            self.snapshot,
            phase=move.to,
            phase_since=self.now,
            step=self.snapshot.step if move.step is None else move.step,
            paused_from=move.paused_from,
            paused_by=move.paused_by,
        )

    def _dispatch(self, dispatch: Dispatch) -> None:
        for view in self.snapshot.nodes:
            if view.id not in dispatch.node_ids:
                continue
            self._generation += 1
            state = NodeState.REVERTING if dispatch.back else NodeState.DISPATCHED
            instance = view.instance_at_dispatch if dispatch.back else view.instance_id
            self.change(
                view.id, generation=self._generation, dispatched_at=self.now, state=state, instance_at_dispatch=instance
            )

    def _wish(self, view: NodeView) -> str:
        back = {NodeState.REVERTING, NodeState.REVERTED, NodeState.QUARANTINED}
        return OLD if view.state in back else NEW
