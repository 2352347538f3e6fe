"""What a rollout waits for before it begins: approvals, its time, the end of a freeze. Pure."""

from datetime import datetime

from controlplane.events.kinds import EventKind, Severity
from controlplane.rollouts.actions import Move, Replan, Step
from controlplane.rollouts.moves import now_do, wait
from controlplane.rollouts.phases import RolloutPhase
from controlplane.rollouts.snapshot import RolloutSnapshot

P = RolloutPhase


def look(rollout: RolloutSnapshot, now: datetime) -> Move | None:
    """The move to the phase in which it waits, or to its end if it may wait no longer; None when it may begin."""
    if rollout.refused_by is not None:
        text = f"Nothing was changed: {rollout.refused_by}"
        return Move(P.REJECTED, EventKind.ROLLOUT_REJECTED, text, Severity.WARNING, outcome=text)
    phase, what = _missing(rollout, now)
    if phase is None:
        return None
    if rollout.expires_at is not None and now >= rollout.expires_at and rollout.phase is not P.VALIDATING:
        text = f"Nothing was changed: it had to begin by {rollout.expires_at:%Y-%m-%d %H:%M} UTC and still waited for {what}"
        return Move(P.EXPIRED, EventKind.ROLLOUT_EXPIRED, text, Severity.WARNING, outcome=text)
    kind = EventKind.ROLLOUT_APPROVAL_REQUIRED if phase is P.PENDING_APPROVAL else EventKind.ROLLOUT_SCHEDULED
    severity = Severity.WARNING if phase is P.PENDING_APPROVAL else Severity.INFO
    return Move(phase, kind, f"Waits for {what}", severity)


def reconcile(rollout: RolloutSnapshot, now: datetime) -> Step:
    """Ends it, or leads back to the start once nothing is missing: the pool is planned afresh, since nodes come and go."""
    found = look(rollout, now)
    if found is None:
        move = Move(P.VALIDATING, EventKind.ROLLOUT_RESUMED, "Nothing is waited for any more: planned anew")
        return now_do((Replan(), move))
    if found.to.is_terminal:
        return now_do((found,))
    if found.to is not rollout.phase:  # by way of the start, so that each wait is told of
        move = Move(P.VALIDATING, EventKind.ROLLOUT_RESUMED, "What it waited for has come; something else has not")
        return now_do((move,))
    return wait(found.message)


def _missing(rollout: RolloutSnapshot, now: datetime) -> tuple[RolloutPhase | None, str]:
    missing = rollout.approvals_needed - rollout.approvals
    if missing > 0:
        whose = f"approval of revision {rollout.to_number} by {missing} more {'person' if missing == 1 else 'people'}"
        return P.PENDING_APPROVAL, f"the {whose} than {rollout.created_by}"
    if rollout.not_before is not None and now < rollout.not_before:
        return P.SCHEDULED, f"its start at {rollout.not_before:%Y-%m-%d %H:%M:%S} UTC"
    if rollout.frozen_reason is not None:
        return P.SCHEDULED, f"the end of the freeze ({rollout.frozen_reason})"
    return None, ""
