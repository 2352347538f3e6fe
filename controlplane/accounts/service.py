"""API tokens and browser sessions: made, checked, revoked. A session ends with the token that it was opened with."""

from datetime import datetime, timedelta

from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.accounts.models import ApiToken, WebSession
from controlplane.accounts.roles import Identity, Role
from controlplane.accounts.secrets import API_TOKEN, SESSION, hash_secret, new_secret
from controlplane.errors import Conflict, Invalid, NotFound

SESSION_LIFETIME = timedelta(days=7)
# A use is written down once a minute at most: reading must not cost a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)
MIN_ADMIN_TOKEN = 24
BOOTSTRAP = "bootstrap admin"


def create_token(
    session: Session, *, name: str, role: Role, now: datetime, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A fresh token and its secret, which exists nowhere else."""
    secret = new_secret(API_TOKEN)
    return _add_token(session, secret, name=name, role=role, now=now, expires_at=expires_at), secret


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
        return _add_token(session, value, name=BOOTSTRAP, role=Role.ADMIN, now=now, expires_at=None)
    token.role, token.revoked_at, token.expires_at = Role.ADMIN, None, None
    session.flush()
    return token


def authenticate_token(session: Session, secret: str, now: datetime) -> ApiToken | None:
    """The token behind a secret while it is valid, else None. The look-up is by hash, so timing tells nothing."""
    token = session.scalar(select(ApiToken).where(ApiToken.token_hash == hash_secret(secret)))
    return token if token is not None and _is_valid(token, now) else None


def authenticate_session(session: Session, secret: str, now: datetime) -> ApiToken | None:
    """The token that a browser session stands for, while both are valid, else None."""
    query = (
        select(WebSession, ApiToken)
        .join(ApiToken, ApiToken.id == WebSession.token_id)
        .where(WebSession.secret_hash == hash_secret(secret))
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    web_session, token = row
    if web_session.revoked_at is not None or web_session.expires_at <= now or not _is_valid(token, now):
        return None
    return token


def identity_of(token: ApiToken, *, via_session: bool) -> Identity:
    return Identity(token.id, token.name, Role(token.role), "session" if via_session else "bearer")


def is_use_due(token: ApiToken, now: datetime) -> bool:
    """Whether the token's last use was written down so long ago that this one should be."""
    return token.last_used_at is None or now - token.last_used_at >= LAST_USED_RESOLUTION


def note_use(session: Session, token_id: str, now: datetime) -> None:
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))


def open_session(session: Session, token: ApiToken, now: datetime) -> tuple[str, datetime]:
    """Opens a browser session; returns its secret and when it ends."""
    secret = new_secret(SESSION)
    ends = now + SESSION_LIFETIME
    expires_at = ends if token.expires_at is None else min(ends, token.expires_at)
    session.add(WebSession(secret_hash=hash_secret(secret), token_id=token.id, created_at=now, expires_at=expires_at))
    session.flush()
    return secret, expires_at


def close_session(session: Session, secret: str, now: datetime) -> None:
    session.execute(update(WebSession).where(WebSession.secret_hash == hash_secret(secret)).values(revoked_at=now))


def list_tokens(session: Session) -> list[ApiToken]:
    return list(session.scalars(select(ApiToken).order_by(ApiToken.created_at, ApiToken.id)))


def revoke_token(session: Session, token_id: str, now: datetime) -> None:
    """Ends a token and its sessions with the next request. Raises NotFound; Conflict for the last admin."""
    token = session.get(ApiToken, token_id)
    if token is None:
        raise NotFound(f"there is no token with id {token_id!r}: GET /api/v1/tokens lists them")
    if token.revoked_at is not None:
        return
    admins = [t.id for t in list_tokens(session) if t.role == Role.ADMIN and _is_valid(t, now)]
    if admins == [token.id]:
        raise Conflict("this is the last admin token: make another one first, or nobody could hand out tokens any more")
    token.revoked_at = now
    session.flush()


def _is_valid(token: ApiToken, now: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def _add_token(
    session: Session, secret: str, *, name: str, role: Role, now: datetime, expires_at: datetime | None
) -> ApiToken:
    token = ApiToken(
        name=name, prefix=secret[:8], token_hash=hash_secret(secret), role=role, created_at=now, expires_at=expires_at
    )
    session.add(token)
    session.flush()
    return token
