"""Browser sessions: rows of SQL, so that each ends the moment somebody ends it. The cookie holds a random secret only."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from controlplane.accounts import grants, tokens
from controlplane.accounts.models import ApiToken, User, WebSession
from controlplane.accounts.roles import Identity, Role
from controlplane.accounts.secrets import SESSION, hash_secret, new_secret
from controlplane.errors import NotFound

LIFETIME = timedelta(days=7)
# Without a request for so long it has ended. An open page asks by itself, so this is a closed one.
IDLE = timedelta(hours=24)
SEEN_RESOLUTION = timedelta(minutes=1)


def open_session(
    session: Session,
    of: User | ApiToken,
    now: datetime,
    *,
    address: str = "",
    browser: str = "",
    lifetime: timedelta = LIFETIME,
) -> tuple[str, datetime]:
    """Opens a browser session for a user or a token; returns its secret and when it ends at the latest."""
    secret = new_secret(SESSION)
    ends = now + min(lifetime, LIFETIME)
    if isinstance(of, ApiToken) and of.expires_at is not None:
        ends = min(ends, of.expires_at)
    session.add(
        WebSession(
            secret_hash=hash_secret(secret),
            user=of if isinstance(of, User) else None,
            token=of if isinstance(of, ApiToken) else None,
            address=address[:64],
            browser=browser[:200],
            created_at=now,
            last_seen_at=now,
            expires_at=ends,
        )
    )
    session.flush()
    return secret, ends


def authenticate_session(session: Session, secret: str, now: datetime) -> WebSession | None:
    """The session behind a cookie's secret while it is open, else None."""
    row = session.scalar(select(WebSession).where(WebSession.secret_hash == hash_secret(secret)))
    return row if row is not None and is_open(row, now) else None


def is_open(row: WebSession, now: datetime) -> bool:
    """Whether it still lets somebody in: not ended, not forgotten, and who it stands for may still come in."""
    if row.revoked_at is not None or row.expires_at <= now or now - (row.last_seen_at or row.created_at) >= IDLE:
        return False
    if row.token is not None:
        return tokens.is_valid(row.token, now)
    return row.user is not None and row.user.disabled_at is None


def identity_of(row: WebSession) -> Identity:
    if row.token is not None:
        return tokens.identity_of(row.token, session_id=row.id)
    assert row.user is not None
    user = row.user
    in_pools = grants.of_user(user)
    return Identity(user.id, user.name, Role(user.role), "session", user.id, row.id, in_pools=in_pools)


def is_sight_due(row: WebSession, now: datetime) -> bool:
    """Whether the session was last seen so long ago that it should be written down now."""
    return row.last_seen_at is None or now - row.last_seen_at >= SEEN_RESOLUTION


def note_sight(session: Session, row: WebSession, now: datetime) -> None:
    session.execute(update(WebSession).where(WebSession.id == row.id).values(last_seen_at=now))
    if row.token_id is not None:
        tokens.note_use(session, row.token_id, now)


def list_open(session: Session, now: datetime, *, user_id: str | None = None) -> list[WebSession]:
    """Those that let somebody in now, newest first; of one user and their tokens, or all."""
    query = select(WebSession).where(WebSession.revoked_at.is_(None), WebSession.expires_at > now)
    if user_id is not None:
        query = query.where(_of_user(user_id))
    rows = session.scalars(query.order_by(WebSession.created_at.desc(), WebSession.id))
    return [row for row in rows if is_open(row, now)]


def end_session(session: Session, session_id: str, now: datetime, *, user_id: str | None = None) -> None:
    """Ends it. With user_id only one of theirs is found. Raises NotFound."""
    query = select(WebSession).where(WebSession.id == session_id)
    row = session.scalar(query if user_id is None else query.where(_of_user(user_id)))
    if row is None:
        raise NotFound(f"there is no session with id {session_id!r}: the list of sessions has those that are open")
    row.revoked_at = row.revoked_at or now
    session.flush()


def close_session(session: Session, secret: str, now: datetime) -> None:
    session.execute(update(WebSession).where(WebSession.secret_hash == hash_secret(secret)).values(revoked_at=now))


def end_sessions_of(session: Session, user_id: str, now: datetime, *, except_id: str | None = None) -> None:
    """All of a user's, those of their tokens too, but for the one."""
    still = (WebSession.revoked_at.is_(None), WebSession.id != (except_id or ""))
    session.execute(update(WebSession).where(_of_user(user_id), *still).values(revoked_at=now))


def _of_user(user_id: str) -> ColumnElement[bool]:
    own = select(ApiToken.id).where(ApiToken.owner_id == user_id)
    return or_(WebSession.user_id == user_id, WebSession.token_id.in_(own))
