"""The ways in: sign-in by password or token, the first admin's set-up, invitations; and who is signed in."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine

from controlplane.accounts import entry, sessions, tokens, users
from controlplane.accounts.access import access
from controlplane.accounts.dependencies import Admin, Bearer, Cookie, Viewer, cookie_name, identify
from controlplane.accounts.entrances import Enter
from controlplane.accounts.known import CHANGES_WHO
from controlplane.accounts.roles import Identity, Role
from controlplane.accounts.schemas import (
    Acceptance,
    InvitationSecret,
    InvitedOut,
    OidcWay,
    PasswordChange,
    SessionOut,
    SetUp,
    SignIn,
    SignInWays,
)
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings, ReadSession, WriteSession
from controlplane.errors import Conflict, Forbidden, Unauthorized
from controlplane.problem import declared

router = APIRouter(tags=["accounts"], dependencies=[CHANGES_WHO])


class TokenRefused(Unauthorized):
    title = "This token lets nobody in"


@router.get("/session/ways", openapi_extra=access("anyone"))
def sign_in_ways(session: ReadSession, settings: ProcessSettings) -> SignInWays:
    """How one may sign in here. Open to all."""
    at_provider = OidcWay(name=settings.oidc_name, url="/api/v1/session/oidc")
    return SignInWays(password=users.has_users(session), oidc=None if settings.oidc_issuer is None else at_provider)


@router.post("/session", status_code=204, responses=declared(401, 403, 429), openapi_extra=access("anyone"))
def sign_in(body: SignIn, enter: Enter, engine: DatabaseEngine, now: Now) -> None:
    """Opens a browser session by name and password, or by an API token, and sets the cookie that stands for it."""
    enter.admit(body.name)
    if body.token is not None:
        with session_scope(engine) as session:
            token = tokens.authenticate_token(session, body.token, now)
            if token is not None:
                tokens.note_use(session, token.id, now)
                enter.open(session, token, now)
                return
        enter.note_failure()
        raise TokenRefused("it is unknown, expired or revoked: take the sign-in link that `trimtab up` prints")
    assert body.name is not None and body.password is not None
    try:
        user_id = entry.sign_in(engine, body.name, body.password, now)
    except entry.UserDisabled:
        enter.note_failure(body.name)
        raise
    if user_id is None:
        enter.note_failure(body.name)
        raise entry.WrongNameOrPassword("try again; if the password is lost, an admin can reset it")
    with session_scope(engine) as session:
        enter.open(session, users.get_user(session, user_id), now)


@router.get(
    "/session",
    response_model=SessionOut,
    responses=declared(401) | {204: {"description": "nobody is signed in in this browser"}},
    openapi_extra=access("anyone"),
)
async def whoami(
    request: Request, bearer: Bearer, cookie: Cookie, engine: DatabaseEngine, settings: ProcessSettings, now: Now
) -> SessionOut | Response:
    """Who is signed in. A browser in which nobody is hears 204; a token that lets nobody in is refused."""
    try:
        who = await identify(request, bearer, cookie, engine, now)
    except Unauthorized:
        if bearer is not None:
            raise
        nobody = Response(status_code=204)
        if cookie:
            nobody.delete_cookie(cookie_name(settings), path="/")
        return nobody
    may_set_up = who.user_id is None and who.role is Role.ADMIN
    due = may_set_up and await run_in_threadpool(_nobody_yet, engine)
    return SessionOut(
        name=who.name, role=who.role, pools=dict(who.in_pools), user_id=who.user_id, session_id=who.session_id,
        set_up_due=due,
    )  # fmt: skip


def _nobody_yet(engine: Engine) -> bool:
    with session_scope(engine, read_only=True) as session:
        return not users.has_users(session)


@router.delete("/session", status_code=204, responses=declared(401, 403))
def sign_out(
    _: Viewer, cookie: Cookie, response: Response, session: WriteSession, settings: ProcessSettings, now: Now
) -> None:
    """Ends the browser session."""
    if cookie:
        sessions.close_session(session, cookie, now)
    response.delete_cookie(cookie_name(settings), path="/")


@router.post("/set-up", status_code=204, responses=declared(401, 403, 409))
def set_up(body: SetUp, who: Admin, enter: Enter, cookie: Cookie, engine: DatabaseEngine, now: Now) -> None:
    """Makes the first user, an admin, and signs them in. Needs the admin token of this installation, and no user yet."""
    if who.user_id is not None:
        raise Conflict("Trimtab is set up already: further users are invited")
    user_id = entry.set_up(engine, body.name, body.password, now)
    with session_scope(engine) as session:
        if cookie:
            sessions.close_session(session, cookie, now)
        enter.open(session, users.get_user(session, user_id), now)


@router.post("/invitations/look", responses=declared(401, 403, 429), openapi_extra=access("anyone"))
def look_at_invitation(body: InvitationSecret, enter: Enter, session: ReadSession, now: Now) -> InvitedOut:
    """Whom a link is for, so that they see whose password they choose. Open to whoever has the link."""
    enter.admit()
    try:
        user, expires_at = users.invited(session, body.secret, now)
    except Unauthorized:
        enter.note_failure()
        raise
    return InvitedOut(name=user.name, role=user.role, expires_at=expires_at)


@router.post("/invitations/accept", status_code=204, responses=declared(401, 403, 429), openapi_extra=access("anyone"))
def accept_invitation(body: Acceptance, enter: Enter, engine: DatabaseEngine, now: Now) -> None:
    """Chooses the password, uses the link up, and signs in."""
    enter.admit()
    try:
        user_id = entry.accept(engine, body.secret, body.password, now)
    except Unauthorized:
        enter.note_failure()
        raise
    with session_scope(engine) as session:
        enter.open(session, users.get_user(session, user_id), now)


def own_user(who: Viewer) -> Identity:
    """Raises Forbidden for a token that belongs to no user: it has no account."""
    if who.user_id is None:
        raise Forbidden(f"{who.name!r} is a token that belongs to no user: sign in with a name and password for this")
    return who


Myself = Annotated[Identity, Depends(own_user)]


@router.put("/account/password", status_code=204, responses=declared(401, 403, 429))
def change_password(body: PasswordChange, who: Myself, enter: Enter, engine: DatabaseEngine, now: Now) -> None:
    """Changes one's own password. One's other sessions end; tokens stay."""
    assert who.user_id is not None
    if who.via == "bearer":
        raise Forbidden("a password is changed in a signed-in browser, not by a token")
    enter.admit(who.name)
    try:
        entry.change_password(
            engine, who.user_id, present=body.present, wanted=body.password, now=now, session_id=who.session_id
        )
    except entry.WrongPassword:
        enter.note_failure(who.name)
        raise
