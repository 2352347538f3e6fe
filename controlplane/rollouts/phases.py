"""The phases of a rollout and the one table of legal moves between them."""

from enum import StrEnum


class RolloutPhase(StrEnum):
    """Where a rollout is. Everything is moved by the controller; people leave requests that it meets."""

    VALIDATING = "VALIDATING"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    SCHEDULED = "SCHEDULED"
    BASELINING = "BASELINING"
    CANARY = "CANARY"
    ANALYZING = "ANALYZING"
    PAUSED = "PAUSED"
    PROMOTING = "PROMOTING"
    BAKING = "BAKING"
    ROLLING_BACK = "ROLLING_BACK"
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SUPERSEDED = "SUPERSEDED"

    @property
    def is_terminal(self) -> bool:
        return not MOVES[self]


P = RolloutPhase

MOVES: dict[RolloutPhase, frozenset[RolloutPhase]] = {
    # A direct rollout (a person takes a finished one back) has no canary: it goes from VALIDATING straight to PROMOTING.
    P.VALIDATING: frozenset({P.PENDING_APPROVAL, P.SCHEDULED, P.BASELINING, P.PROMOTING, P.REJECTED, P.CANCELLED}),
    # What has waited is looked at afresh: the pool has other nodes by then.
    P.PENDING_APPROVAL: frozenset({P.VALIDATING, P.REJECTED, P.EXPIRED, P.CANCELLED, P.SUPERSEDED}),
    P.SCHEDULED: frozenset({P.VALIDATING, P.REJECTED, P.EXPIRED, P.CANCELLED, P.SUPERSEDED}),
    # Until the canary is sent nothing has changed, so there is nothing to roll back.
    P.BASELINING: frozenset({P.CANARY, P.PAUSED, P.CANCELLED}),
    P.CANARY: frozenset({P.ANALYZING, P.PAUSED, P.ROLLING_BACK}),
    # Straight to BAKING where the canary is the whole pool.
    P.ANALYZING: frozenset({P.PROMOTING, P.BAKING, P.PAUSED, P.ROLLING_BACK}),
    P.PROMOTING: frozenset({P.BAKING, P.COMPLETED, P.PAUSED, P.ROLLING_BACK}),
    P.BAKING: frozenset({P.COMPLETED, P.PAUSED, P.ROLLING_BACK}),
    P.PAUSED: frozenset({P.BASELINING, P.CANARY, P.ANALYZING, P.PROMOTING, P.BAKING, P.ROLLING_BACK, P.CANCELLED}),
    P.ROLLING_BACK: frozenset({P.ROLLED_BACK, P.ROLLBACK_FAILED}),
    P.COMPLETED: frozenset(),
    P.ROLLED_BACK: frozenset(),
    P.ROLLBACK_FAILED: frozenset(),
    P.REJECTED: frozenset(),
    P.CANCELLED: frozenset(),
    P.EXPIRED: frozenset(),
    P.SUPERSEDED: frozenset(),
}

ACTIVE: frozenset[RolloutPhase] = frozenset(phase for phase in RolloutPhase if MOVES[phase])
# It has not begun: it waits for people or for its time, and a newer change may take its place.
WAITING: frozenset[RolloutPhase] = frozenset({P.PENDING_APPROVAL, P.SCHEDULED})


def is_legal(source: RolloutPhase, target: RolloutPhase) -> bool:
    return target in MOVES[source]


class PausedBy(StrEnum):
    """What a pause waits for: a person (resume, promote or abort), or the end of the freeze."""

    PERSON = "person"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    FREEZE = "freeze"


class NodeState(StrEnum):
    """How far a node is in a rollout. QUARANTINED: left out, or sent back alone, since it crashed or kept refusing."""

    PENDING = "PENDING"
    DISPATCHED = "DISPATCHED"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"
    UNREACHABLE = "UNREACHABLE"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    QUARANTINED = "QUARANTINED"


class Verb(StrEnum):
    """What a person may ask of a rollout that is under way."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    ROLLBACK = "rollback"
