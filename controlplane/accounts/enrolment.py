"""Tokens with which one node joins. Good for one process: shown again by the same one (it lost the answer) they still serve."""

from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.accounts.models import EnrolmentToken
from controlplane.accounts.secrets import ENROLMENT, hash_secret, new_secret
from controlplane.errors import Conflict, NotFound, Unauthorized
from controlplane.events import service as events
from controlplane.events.kinds import EventKind

State = Literal["open", "used", "revoked", "expired"]


class EnrolmentTokenUsed(Unauthorized):
    title = "The enrolment token was used"


def create(session: Session, *, note: str, by: str, now: datetime, expires_at: datetime) -> tuple[EnrolmentToken, str]:
    """A token for one node, and its secret, which exists nowhere else."""
    secret = new_secret(ENROLMENT)
    token = EnrolmentToken(
        note=note, prefix=secret[:8], token_hash=hash_secret(secret), created_by=by, created_at=now, expires_at=expires_at
    )  # fmt: skip
    session.add(token)
    session.flush()
    message = f"{by} made an enrolment token for one node" + (f": {note}" if note else "")
    events.record(session, kind=EventKind.ACCESS_ENROLMENT_CREATED, message=message, at=now, actor=by)
    return token, secret


def list_all(session: Session) -> list[EnrolmentToken]:
    """Newest first, used and ended ones too."""
    return list(session.scalars(select(EnrolmentToken).order_by(EnrolmentToken.created_at.desc(), EnrolmentToken.id)))


def revoke(session: Session, token_id: str, now: datetime, *, by: str) -> None:
    """Raises NotFound; Conflict once a node joined with it, since it is the node then that must be taken out."""
    token = session.get(EnrolmentToken, token_id, with_for_update=True)
    if token is None:
        raise NotFound(f"there is no enrolment token with id {token_id!r}: GET /api/v1/enrolment-tokens lists them")
    if token.used_at is not None:
        raise Conflict("a node has joined with this token: remove the node instead")
    if token.revoked_at is None:
        token.revoked_at = now
        session.flush()
        message = f"{by} revoked an enrolment token" + (f": {token.note}" if token.note else "")
        events.record(session, kind=EventKind.ACCESS_ENROLMENT_REVOKED, message=message, at=now, actor=by)


def state_of(token: EnrolmentToken, now: datetime) -> State:
    if token.used_at is not None:
        return "used"
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at <= now else "open"


def find(session: Session, secret: str, now: datetime, *, lock: bool = False) -> EnrolmentToken | None:
    """The token, used or not, unless it was revoked, or has expired unused."""
    query = select(EnrolmentToken).where(EnrolmentToken.token_hash == hash_secret(secret))
    token = session.scalar(query.with_for_update() if lock else query)
    return token if token is not None and state_of(token, now) in {"open", "used"} else None


def use(session: Session, token: EnrolmentToken, *, node_id: str, same_process: bool, now: datetime) -> None:
    """Binds a locked token to the node that just joined with it.

    same_process: the node was registered by this very process before. Raises EnrolmentTokenUsed for any other.
    """
    if token.used_at is not None and not (token.used_by == node_id and same_process):
        raise EnrolmentTokenUsed("this enrolment token has let a node in already, and is good for one: make another")
    token.used_at, token.used_by = token.used_at or now, node_id
    session.flush()
