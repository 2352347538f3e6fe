"""Users: invited by an admin, let in by a password that only they know, given a role, disabled."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from controlplane.accounts import grants, sessions
from controlplane.accounts.models import ApiToken, Invitation, RoleGrant, User
from controlplane.accounts.passwords import PasswordHash
from controlplane.accounts.roles import Role
from controlplane.accounts.secrets import INVITATION, hash_secret, new_secret
from controlplane.accounts.tokens import keep_an_admin
from controlplane.db import insert_if_absent
from controlplane.errors import Conflict, Invalid, NotFound, Unauthorized
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.ids import new_id

INVITED_FOR = timedelta(hours=72)
NAME_RULE = r"^[a-z0-9][a-z0-9._@+-]{0,63}$"
# They stand in the history for parts of Trimtab itself.
RESERVED = frozenset({"system", "controller", "telemetry", "worker", "node", "single-sign-on"})


class NameTaken(Conflict):
    title = "The name is taken"


class InvitationEnded(Unauthorized):
    title = "The link no longer works"


class AlreadySetUp(Conflict):
    title = "Already set up"


def create_user(session: Session, *, name: str, role: Role, by: str, now: datetime) -> User:
    """A user who cannot come in yet: `invite` gives the link for it. Raises Invalid, NameTaken."""
    check_name(session, name)
    added = insert_if_absent(
        session, User, id=new_id(), name=name, role=role, created_at=now, created_by=by, password_hash=None,
        disabled_at=None, last_sign_in_at=None,
    )  # fmt: skip
    if not added:
        raise NameTaken(f"name: there is a user {name!r} already", errors=[_at("name", "there is a user of this name")])
    user = session.scalars(select(User).where(User.name == name)).one()
    _tell(session, EventKind.ACCESS_USER_CREATED, f"{by} created user {name} as {role}", by, now)
    return user


def check_name(session: Session, name: str) -> None:
    """Raises Invalid or NameTaken, naming the field `name`, unless a person may bear it beside what stands in the history."""
    if not re.fullmatch(NAME_RULE, name):
        raise Invalid(f"name: {_NAME}", errors=[_at("name", _NAME)])
    if name in RESERVED or session.scalar(select(ApiToken.id).where(func.lower(ApiToken.name) == name).limit(1)):
        words = "stands in the history for a service already: take another"
        raise NameTaken(f"name: {name!r} {words}", errors=[_at("name", words)])


def add_first_admin(session: Session, *, name: str, kept: PasswordHash, now: datetime) -> User:
    """The first user, an admin with the password that they chose. Raises AlreadySetUp once there is any user."""
    if has_users(session):
        raise AlreadySetUp("Trimtab is set up already: sign in, or ask an admin for an invitation")
    user = create_user(session, name=name, role=Role.ADMIN, by=name, now=now)
    user.password_hash, user.last_sign_in_at = kept, now
    session.flush()
    return user


def has_users(session: Session) -> bool:
    return session.scalar(select(User.id).limit(1)) is not None


def list_users(session: Session) -> list[User]:
    return list(session.scalars(select(User).order_by(User.name)))


def get_user(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise NotFound(f"there is no user with id {user_id!r}: GET /api/v1/users lists them")
    return user


def find_user(session: Session, name: str) -> User | None:
    return session.scalar(select(User).where(User.name == name.strip().casefold()))


def set_password(session: Session, user: User, kept: PasswordHash, now: datetime, *, session_id: str | None) -> None:
    """Ends the user's other sessions: whoever had the old password may be in one."""
    user.password_hash = kept
    sessions.end_sessions_of(session, user.id, now, except_id=session_id)
    _tell(session, EventKind.ACCESS_PASSWORD_SET, f"{user.name} changed their password", user.name, now)


def invite(session: Session, user: User, now: datetime) -> tuple[str, datetime]:
    """The secret of a link with which the user chooses a password, and when it ends. Links from before end at once."""
    secret, expires_at = new_secret(INVITATION), now + INVITED_FOR
    _end_invitations(session, user.id, now)
    session.add(Invitation(secret_hash=hash_secret(secret), user_id=user.id, created_at=now, expires_at=expires_at))
    session.flush()
    return secret, expires_at


def reset(session: Session, user: User, *, by: str, now: datetime) -> tuple[str, datetime]:
    """As `invite`; the password and all sessions and tokens end at once. Raises Conflict for the last admin."""
    if user.role == Role.ADMIN:
        keep_an_admin(session, now, without_user=user.id)
    user.password_hash = None
    _shut_out(session, user, now)
    _tell(session, EventKind.ACCESS_PASSWORD_RESET, f"{by} reset {user.name}", by, now, Severity.WARNING)
    return invite(session, user, now)


def invited(session: Session, secret: str, now: datetime) -> tuple[User, datetime]:
    """Whom a link is for, and when it ends. Raises InvitationEnded."""
    invitation, user = _open_invitation(session, secret, now)
    return user, invitation.expires_at


def accept(session: Session, secret: str, kept: PasswordHash, now: datetime) -> User:
    """Sets the invited user's password, and uses the link up. Raises InvitationEnded."""
    invitation, user = _open_invitation(session, secret, now, lock=True)
    invitation.used_at = now
    user.password_hash, user.last_sign_in_at = kept, now
    session.flush()
    _tell(session, EventKind.ACCESS_PASSWORD_SET, f"{user.name} chose a password", user.name, now)
    return user


def set_role(session: Session, user: User, role: Role, *, by: str, now: datetime) -> None:
    """From the next request on. Raises Conflict for the last admin."""
    if user.role == role:
        return
    if user.role == Role.ADMIN:
        keep_an_admin(session, now, without_user=user.id)
    before, user.role = user.role, role
    session.flush()
    _tell(session, EventKind.ACCESS_ROLE_CHANGED, f"{by} made {user.name} {role}, from {before}", by, now)


def set_grants(session: Session, user: User, wanted: Mapping[str, Role], *, by: str, now: datetime) -> None:
    """The roles that they have in single pools, from the next request on: those that are not named end. Raises Invalid."""
    for pool_id in wanted:
        grants.check_pool(session, pool_id, field=f"pools.{pool_id}")
    if grants.of_user(user) == dict(wanted):
        return
    kept = {grant.pool_id: grant for grant in user.grants}
    for pool_id, role in wanted.items():
        if pool_id in kept:
            kept[pool_id].role = role
        else:
            user.grants.append(RoleGrant(pool_id=pool_id, role=role))
    user.grants = [grant for grant in user.grants if grant.pool_id in wanted]
    session.flush()
    said = ", ".join(f"{role} in {grants.pool_name(session, pool_id)}" for pool_id, role in wanted.items())
    message = f"{by} made {user.name} {said}" if said else f"{by} ended what {user.name} might do in single pools"
    _tell(session, EventKind.ACCESS_ROLE_CHANGED, message, by, now)


def disable(session: Session, user: User, *, by: str, now: datetime) -> None:
    """Ends their sessions, tokens and invitations; what they did stays in the history. Raises Conflict for the last admin."""
    if user.disabled_at is not None:
        return
    if user.role == Role.ADMIN:
        keep_an_admin(session, now, without_user=user.id)
    user.disabled_at = now
    _shut_out(session, user, now)
    _tell(session, EventKind.ACCESS_USER_DISABLED, f"{by} disabled {user.name}", by, now, Severity.WARNING)


def enable(session: Session, user: User, *, by: str, now: datetime) -> None:
    """Lets them sign in again. Sessions and tokens that ended stay ended."""
    if user.disabled_at is None:
        return
    user.disabled_at = None
    session.flush()
    _tell(session, EventKind.ACCESS_USER_ENABLED, f"{by} enabled {user.name}", by, now)


def _shut_out(session: Session, user: User, now: datetime) -> None:
    session.flush()
    sessions.end_sessions_of(session, user.id, now)
    live = (ApiToken.owner_id == user.id, ApiToken.revoked_at.is_(None))
    session.execute(update(ApiToken).where(*live).values(revoked_at=now))
    _end_invitations(session, user.id, now)


def _end_invitations(session: Session, user_id: str, now: datetime) -> None:
    unused = (Invitation.user_id == user_id, Invitation.used_at.is_(None), Invitation.expires_at > now)
    session.execute(update(Invitation).where(*unused).values(expires_at=now))


def _open_invitation(session: Session, secret: str, now: datetime, *, lock: bool = False) -> tuple[Invitation, User]:
    query = select(Invitation).where(Invitation.secret_hash == hash_secret(secret))
    invitation = session.scalar(query.with_for_update() if lock else query)
    if invitation is None or invitation.used_at is not None or invitation.expires_at <= now:
        raise InvitationEnded("this link was used, has ended, or was replaced by a newer one: ask an admin for another")
    user = get_user(session, invitation.user_id)
    if user.disabled_at is not None:
        raise InvitationEnded("this link is for a user who was disabled: ask an admin")
    return invitation, user


def _at(field: str, message: str) -> dict[str, str]:
    return {"field": field, "message": message}


_NAME = (
    "lower-case letters, digits and . _ @ + -, beginning with a letter or digit, at most 64 (an e-mail address will do)"
)


def _tell(
    session: Session, kind: EventKind, message: str, actor: str, now: datetime, severity: Severity = Severity.INFO
) -> None:
    events.record(session, kind=kind, message=message, at=now, actor=actor, severity=severity)
