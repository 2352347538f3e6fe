"""API tokens: made, known by their hash, revoked. One with an owner acts under the owner's name, with no more than their role."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import SecretStr
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from controlplane.accounts import grants
from controlplane.accounts.models import ApiToken, User
from controlplane.accounts.roles import Identity, Role
from controlplane.accounts.secrets import API_TOKEN, hash_secret, new_secret
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind

# A use is written down once a minute at most: reading must not cost a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)
MIN_ADMIN_TOKEN = 24
BOOTSTRAP = "bootstrap admin"
# Made once: every request asks it.
_BY_HASH = select(ApiToken).where(ApiToken.token_hash == bindparam("token_hash"))


def create_token(
    session: Session,
    *,
    name: str,
    role: Role,
    now: datetime,
    by: str = "system",
    expires_at: datetime | None = None,
    owner: User | None = None,
    most: Role | None = None,
    pool_id: str | None = None,
) -> tuple[ApiToken, str]:
    """A fresh token and its secret, which exists nowhere else. Raises Invalid, Conflict.

    owner: whose it is; None for a service. most: the role that who makes it acts with, which it cannot exceed.
    pool_id: the one pool that the role counts in; elsewhere the token reads.
    A service's name stands in the history as a person's does, and so must not be one.
    """
    if expires_at is not None and expires_at <= now:
        raise _wrong("expires_at", "lies in the past")
    if owner is None and session.scalar(select(User.id).where(User.name == name.casefold())) is not None:
        raise Conflict(f"name: {name!r} is a user's name, and a service's would look the same in the history")
    if most is not None and not most.includes(role):
        raise _wrong("role", f"you act as {most} here, and a token of yours cannot have more")
    if pool_id is not None:
        grants.check_pool(session, pool_id, field="pool_id")
    secret = new_secret(API_TOKEN)
    token = _add_token(session, secret, name=name, role=role, now=now, expires_at=expires_at, owner=owner)
    token.pool_id = pool_id
    session.flush()
    whose = f"{owner.name}'s" if owner else "a service's"
    message = f"{by} made token {name} ({whose}, {role}{' in one pool' if pool_id else ''})"
    events.record(session, kind=EventKind.ACCESS_TOKEN_CREATED, message=message, at=now, actor=by)
    return token, secret


def ensure_admin_token(session: Session, secret: SecretStr, now: datetime) -> ApiToken:
    """Makes the configured token an admin's. Another one that was configured before is revoked. Raises Invalid."""
    value = secret.get_secret_value()
    if len(value) < MIN_ADMIN_TOKEN:
        raise Invalid(
            f"CONTROLPLANE_ADMIN_TOKEN has {len(value)} characters; use at least {MIN_ADMIN_TOKEN}, best random ones: "
            "python3 -c 'import secrets; print(\"tt_\" + secrets.token_urlsafe(32))'"
        )
    token_hash = hash_secret(value)
    others = (ApiToken.name == BOOTSTRAP, ApiToken.token_hash != token_hash, ApiToken.revoked_at.is_(None))
    session.execute(update(ApiToken).where(*others).values(revoked_at=now))
    token = session.scalar(select(ApiToken).where(ApiToken.token_hash == token_hash))
    if token is None:
        return _add_token(session, value, name=BOOTSTRAP, role=Role.ADMIN, now=now, expires_at=None, owner=None)
    token.role, token.revoked_at, token.expires_at, token.pool_id = Role.ADMIN, None, None, None
    session.flush()
    return token


def authenticate_token(session: Session, secret: str, now: datetime) -> ApiToken | None:
    """The token behind a secret while it is valid, else None. The look-up is by hash, so timing tells nothing."""
    token = session.scalar(_BY_HASH, {"token_hash": hash_secret(secret)})
    return token if token is not None and is_valid(token, now) else None


def is_valid(token: ApiToken, now: datetime) -> bool:
    """Whether it lets anybody in: neither revoked nor expired, and its owner not disabled."""
    if token.owner is not None and token.owner.disabled_at is not None:
        return False
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def identity_of(token: ApiToken, *, session_id: str | None = None) -> Identity:
    """Who acts with it. session_id: of the browser session that was opened with it."""
    role, in_pools = grants.of_token(token)
    name, user_id = (token.owner.name, token.owner.id) if token.owner is not None else (token.name, None)
    via: Literal["session", "bearer"] = "session" if session_id else "bearer"
    return Identity(token.id, name, role, via, user_id, session_id, in_pools=in_pools)


def is_use_due(token: ApiToken, now: datetime) -> bool:
    """Whether the token's last use was written down so long ago that this one should be."""
    return token.last_used_at is None or now - token.last_used_at >= LAST_USED_RESOLUTION


def note_use(session: Session, token_id: str, now: datetime) -> None:
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))


def list_tokens(session: Session, *, owner_id: str | None = None) -> list[ApiToken]:
    """Oldest first, also those that have ended; of one owner, or all."""
    query = select(ApiToken).order_by(ApiToken.created_at, ApiToken.id)
    return list(session.scalars(query if owner_id is None else query.where(ApiToken.owner_id == owner_id)))


def revoke_token(
    session: Session, token_id: str, now: datetime, *, by: str = "system", owner_id: str | None = None
) -> None:
    """Ends a token and its sessions. With owner_id only one of theirs is found.

    Raises NotFound; Conflict for the last way in as an admin.
    """
    token = session.get(ApiToken, token_id)
    if token is None or (owner_id is not None and token.owner_id != owner_id):
        raise NotFound(f"there is no token with id {token_id!r}: the list of tokens has those that there are")
    if token.revoked_at is not None:
        return
    # An owner has a password (without one their tokens ended too), and so another way in.
    if token.owner is None and is_valid(token, now) and identity_of(token).role is Role.ADMIN:
        keep_an_admin(session, now, without_token=token.id)
    token.revoked_at = now
    session.flush()
    events.record(
        session, kind=EventKind.ACCESS_TOKEN_REVOKED, message=f"{by} revoked token {token.name}", at=now, actor=by
    )


def keep_an_admin(
    session: Session, now: datetime, *, without_token: str | None = None, without_user: str | None = None
) -> None:
    """Raises Conflict if nobody could let others in any more once this token, or this user, is gone."""
    able = (User.role == Role.ADMIN, User.disabled_at.is_(None), User.password_hash.is_not(None))
    people = session.scalar(select(func.count()).select_from(User).where(*able, User.id != (without_user or "")))
    services = (
        token
        for token in list_tokens(session)
        if token.id != without_token
        and token.owner_id is None
        and token.pool_id is None
        and token.role == Role.ADMIN
        and is_valid(token, now)
    )
    if not people and next(services, None) is None:
        raise Conflict("this is the last admin: make another one first, or nobody could let anybody in any more")


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])


def _add_token(
    session: Session,
    secret: str,
    *,
    name: str,
    role: Role,
    now: datetime,
    expires_at: datetime | None,
    owner: User | None,
) -> ApiToken:
    token = ApiToken(
        name=name,
        prefix=secret[:8],
        token_hash=hash_secret(secret),
        role=role,
        created_at=now,
        expires_at=expires_at,
        owner=owner,
    )
    session.add(token)
    session.flush()
    return token
