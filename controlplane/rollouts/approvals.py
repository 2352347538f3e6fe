"""Approvals: who agreed to which settings. Four eyes: nobody approves what they asked for, and nobody counts twice.

An approval is bound to the hash of the settings that the person was shown, so that it can never be taken for one of others.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.errors import Conflict, Forbidden
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets import service as fleets
from controlplane.ids import new_id
from controlplane.rollouts import service
from controlplane.rollouts.models import Rollout, RolloutApproval
from controlplane.rollouts.phases import WAITING, RolloutPhase


class OwnChange(Forbidden):
    title = "Four eyes are needed"


class OtherSettings(Conflict):
    title = "Other settings were approved"


def approve(
    session: Session, rollout_id: str, actor: str, *, settings_hash: str, now: datetime, comment: str = ""
) -> Rollout:
    """Counts `actor` for the settings with this hash (`to_revision.content_hash`). A second time changes nothing.

    Raises NotFound, OwnChange, OtherSettings, and Conflict when the rollout does not wait for approvals (any more).
    """
    return _vote(session, rollout_id, actor, settings_hash=settings_hash, now=now, comment=comment, agrees=True)


def refuse(
    session: Session, rollout_id: str, actor: str, *, settings_hash: str, now: datetime, comment: str = ""
) -> Rollout:
    """One refusal ends the rollout before it has begun, whoever approved it. Raises as `approve`, but also takes one's own."""
    return _vote(session, rollout_id, actor, settings_hash=settings_hash, now=now, comment=comment, agrees=False)


def list_approvals(session: Session, rollout_id: str) -> list[RolloutApproval]:
    """Oldest first."""
    query = select(RolloutApproval).where(RolloutApproval.rollout_id == rollout_id)
    return list(session.scalars(query.order_by(RolloutApproval.at, RolloutApproval.id)))


def standing(session: Session, rollout: Rollout, settings_hash: str) -> tuple[int, str | None]:
    """How many have approved these settings, and who has refused them, in words."""
    votes = [vote for vote in list_approvals(session, rollout.id) if vote.settings_hash == settings_hash]
    agreed = {vote.actor for vote in votes if vote.agrees and vote.actor != rollout.created_by}
    against = next((vote for vote in votes if not vote.agrees), None)
    if against is None:
        return len(agreed), None
    return len(agreed), f"{against.actor} refused it" + (f": {against.comment}" if against.comment else "")


def _vote(
    session: Session, rollout_id: str, actor: str, *, settings_hash: str, now: datetime, comment: str, agrees: bool
) -> Rollout:
    rollout = service.lock_rollout(session, rollout_id)
    wanted = fleets.get_revision(session, rollout.to_revision_id)
    if RolloutPhase(rollout.phase) not in {RolloutPhase.VALIDATING, *WAITING}:
        raise Conflict(f"the rollout is {rollout.phase}: it is approved or refused before it begins; abort it instead")
    if settings_hash != wanted.content_hash:
        raise OtherSettings(
            f"the rollout brings revision {wanted.number} with hash {wanted.content_hash}, not {settings_hash}: "
            "look at it again, and send the hash of what you saw",
            settings_hash=wanted.content_hash,
        )
    if agrees and actor == rollout.created_by:
        raise OwnChange(f"{actor} asked for this change, so somebody else must approve it")
    new = insert_if_absent(
        session, RolloutApproval, id=new_id(), rollout_id=rollout.id, actor=actor, at=now, settings_hash=settings_hash,
        agrees=agrees, comment=comment,
    )  # fmt: skip
    if not new:
        query = select(RolloutApproval).where(RolloutApproval.rollout_id == rollout.id, RolloutApproval.actor == actor)
        before = session.scalars(query.execution_options(populate_existing=True)).one()
        if before.agrees == agrees:
            return rollout
        before.agrees, before.at, before.comment = agrees, now, comment
    done = "approved" if agrees else "refused"
    words = f"{actor} {done} revision {wanted.number}" + (f": {comment}" if comment else "")
    events.record(
        session, kind=EventKind.ROLLOUT_APPROVED if agrees else EventKind.ROLLOUT_REQUESTED, message=words, at=now,
        severity=Severity.INFO if agrees else Severity.WARNING, actor=actor, pool_id=rollout.pool_id,
        rollout_id=rollout.id, decision_id=rollout.decision_id, data={"settings_hash": settings_hash, "agrees": agrees},
    )  # fmt: skip
    session.flush()
    return rollout
