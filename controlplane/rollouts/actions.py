"""What `reconcile()` may order. Each action says what to write, never how; `execute.py` does it in one transaction."""

from dataclasses import dataclass

from controlplane.events.kinds import EventKind, Severity
from controlplane.rollouts.analysis import Report
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb


@dataclass(frozen=True, slots=True)
class Move:
    """To another phase, with the event that tells of it. `outcome` is what stands at the rollout's end."""

    to: RolloutPhase
    kind: EventKind
    message: str
    severity: Severity = Severity.INFO
    actor: str = "controller"
    step: int | None = None
    outcome: str | None = None
    paused_from: RolloutPhase | None = None
    paused_by: PausedBy | None = None


@dataclass(frozen=True, slots=True)
class NextWave:
    """On to the next wave, within PROMOTING."""

    step: int
    message: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Wish the new revision (or, `back`, the old one) for these nodes, and owe the pushes."""

    node_ids: tuple[str, ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class NodeMove:
    """A node's state in the rollout changes; `detail` says what people should know of it."""

    node_id: str
    state: NodeState
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Replan:
    """Canary, control and waves are chosen anew among the nodes that the pool has now. Only before anything was sent."""


@dataclass(frozen=True, slots=True)
class Note:
    """A look's verdict is recorded, whatever follows from it."""

    report: Report


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's request is met by the actions beside it, or can no longer be; `refused` says why."""

    verb: Verb
    refused: str | None = None


Action = Move | NextWave | Dispatch | NodeMove | Replan | Note | Answer


@dataclass(frozen=True, slots=True)
class Step:
    """The answer of `reconcile()`: what to do now, when to look again (None: never), and in words what is waited for."""

    actions: tuple[Action, ...]
    requeue_after_s: float | None
    why: str

    @property
    def move(self) -> Move | None:
        return next((action for action in self.actions if isinstance(action, Move)), None)

    @property
    def sends(self) -> bool:
        """Whether settings go out to nodes with it."""
        return any(isinstance(action, Dispatch) for action in self.actions)
