"""Who may come in: an admin invites, resets, disables and gives roles; sessions are seen and ended."""

from datetime import datetime

from fastapi import APIRouter

from controlplane.accounts import grants, sessions, users
from controlplane.accounts.dependencies import Admin
from controlplane.accounts.endpoints import Myself
from controlplane.accounts.known import CHANGES_WHO
from controlplane.accounts.models import User, WebSession
from controlplane.accounts.roles import Identity
from controlplane.accounts.schemas import InvitationOut, UserIn, UserOut, UserPatch, WebSessionOut
from controlplane.dependencies import Now, ProcessSettings, ReadSession, WriteSession
from controlplane.errors import Conflict
from controlplane.problem import declared
from controlplane.schemas import Page

router = APIRouter(tags=["accounts"], dependencies=[CHANGES_WHO])
_CHANGE = declared(401, 403, 404, 409, 422)


@router.get("/users", responses=declared(401, 403))
def list_users(_: Admin, session: ReadSession) -> Page[UserOut]:
    """All users by name, disabled ones too: what they did stands in the history under their names."""
    return Page(items=[_user(user) for user in users.list_users(session)])


@router.post("/users", status_code=201, responses=declared(401, 403, 409, 422))
def create_user(body: UserIn, who: Admin, session: WriteSession, settings: ProcessSettings, now: Now) -> InvitationOut:
    """A new user, and the link with which they choose a password that nobody else knows."""
    user = users.create_user(session, name=body.name, role=body.role, by=who.name, now=now)
    users.set_grants(session, user, body.pools, by=who.name, now=now)
    return _invitation(user, *users.invite(session, user, now), settings.base_url)


@router.patch("/users/{user_id}", responses=_CHANGE)
def change_user(user_id: str, body: UserPatch, who: Admin, session: WriteSession, now: Now) -> UserOut:
    """Gives another role, disables or enables. A disabled user's sessions, tokens and links end at once."""
    user = users.get_user(session, user_id)
    if user.id == who.user_id and (body.disabled or body.role not in {None, who.role}):
        raise Conflict("nobody disables themselves or takes their own role away: another admin does it")
    if body.role is not None:
        users.set_role(session, user, body.role, by=who.name, now=now)
    if body.pools is not None:
        users.set_grants(session, user, body.pools, by=who.name, now=now)
    if body.disabled is not None:
        change = users.disable if body.disabled else users.enable
        change(session, user, by=who.name, now=now)
    return _user(user)


@router.post("/users/{user_id}/reset", responses=_CHANGE)
def reset_user(user_id: str, who: Admin, session: WriteSession, settings: ProcessSettings, now: Now) -> InvitationOut:
    """Ends the user's password, sessions and tokens at once, and gives a new link. Also for one who lost theirs."""
    user = users.get_user(session, user_id)
    if user.disabled_at is not None:
        raise Conflict(f"{user.name} is disabled: enable them first")
    if user.id == who.user_id:
        raise Conflict("change your own password on your account's page; resetting would shut you out")
    return _invitation(user, *users.reset(session, user, by=who.name, now=now), settings.base_url)


@router.get("/sessions", responses=declared(401, 403))
def list_sessions(who: Admin, session: ReadSession, now: Now) -> Page[WebSessionOut]:
    """All open browser sessions, newest first."""
    return Page(items=[_session(row, who) for row in sessions.list_open(session, now)])


@router.delete("/sessions/{session_id}", status_code=204, responses=declared(401, 403, 404))
def end_session(session_id: str, _: Admin, session: WriteSession, now: Now) -> None:
    """Ends anybody's session, as of their next request."""
    sessions.end_session(session, session_id, now)


@router.get("/account/sessions", responses=declared(401, 403))
def list_own_sessions(who: Myself, session: ReadSession, now: Now) -> Page[WebSessionOut]:
    """One's own open browser sessions, newest first."""
    return Page(items=[_session(row, who) for row in sessions.list_open(session, now, user_id=who.user_id)])


@router.delete("/account/sessions/{session_id}", status_code=204, responses=declared(401, 403, 404))
def end_own_session(session_id: str, who: Myself, session: WriteSession, now: Now) -> None:
    """Ends one of one's own sessions, as of its next request."""
    sessions.end_session(session, session_id, now, user_id=who.user_id)


def _user(user: User) -> UserOut:
    provider = next((each.issuer for each in user.identities), None)
    state = "disabled" if user.disabled_at else "active" if user.password_hash or provider else "invited"
    return UserOut(
        id=user.id, name=user.name, role=user.role, pools=grants.of_user(user), state=state,
        created_at=user.created_at, created_by=user.created_by, last_sign_in_at=user.last_sign_in_at,
        provider=provider,
    )  # fmt: skip


def _invitation(user: User, secret: str, expires_at: datetime, base_url: str) -> InvitationOut:
    # Behind `#`, which browsers send nobody: neither a log nor a proxy sees the secret.
    return InvitationOut(user=_user(user), url=f"{base_url}/#invitation={secret}", expires_at=expires_at)


def _session(row: WebSession, who: Identity) -> WebSessionOut:
    known = sessions.identity_of(row)
    return WebSessionOut(
        id=row.id, name=known.name, role=known.role, address=row.address, browser=row.browser,
        created_at=row.created_at, last_seen_at=row.last_seen_at or row.created_at, expires_at=row.expires_at,
        current=row.id == who.session_id,
    )  # fmt: skip
