"""Sign-in of browsers, and the tokens that an admin hands out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from controlplane.accounts import service
from controlplane.accounts.csrf import is_cross_site
from controlplane.accounts.dependencies import COOKIE, Admin, Cookie, Viewer
from controlplane.accounts.schemas import SessionOut, SignIn, TokenCreated, TokenIn, TokenOut
from controlplane.accounts.throttle import SignInThrottle
from controlplane.dependencies import Now, ProcessSettings, ReadSession, WriteSession
from controlplane.errors import Forbidden, Invalid, Unauthorized
from controlplane.problem import declared
from controlplane.schemas import Page

router = APIRouter(tags=["accounts"])


def _throttle(request: Request) -> SignInThrottle:
    throttle = request.app.state.sign_in_throttle
    assert isinstance(throttle, SignInThrottle)
    return throttle


@router.post("/session", status_code=204, responses=declared(401, 403, 429))
def sign_in(
    body: SignIn,
    request: Request,
    response: Response,
    session: WriteSession,
    settings: ProcessSettings,
    now: Now,
    throttle: Annotated[SignInThrottle, Depends(_throttle)],
) -> None:
    """Opens a browser session with an API token and sets the cookie that stands for it."""
    if is_cross_site(request.method, request.headers):
        raise Forbidden("sign in from the web app itself, not from another site's page")
    address = request.client.host if request.client else "unknown"
    throttle.check(address)
    token = service.authenticate_token(session, body.token, now)
    if token is None:
        throttle.note_failure(address)
        raise Unauthorized("the token is unknown, expired or revoked: take the sign-in link that `trimtab up` prints")
    secret, expires_at = service.open_session(session, token, now)
    response.set_cookie(
        COOKIE,
        secret,
        expires=expires_at,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.base_url.startswith("https://"),
    )


@router.get("/session", responses=declared(401))
def whoami(who: Viewer) -> SessionOut:
    """Who is signed in, by token or by session."""
    return SessionOut(name=who.name, role=who.role)


@router.delete("/session", status_code=204, responses=declared(401, 403))
def sign_out(who: Viewer, cookie: Cookie, response: Response, session: WriteSession, now: Now) -> None:
    """Ends the browser session."""
    if cookie:
        service.close_session(session, cookie, now)
    response.delete_cookie(COOKIE, path="/")


@router.get("/tokens", responses=declared(401, 403))
def list_tokens(_: Admin, session: ReadSession) -> Page[TokenOut]:
    """All API tokens, also revoked ones, without their secrets."""
    return Page(items=[TokenOut.model_validate(token) for token in service.list_tokens(session)])


@router.post("/tokens", status_code=201, responses=declared(401, 403, 422))
def create_token(body: TokenIn, _: Admin, session: WriteSession, now: Now) -> TokenCreated:
    """Makes an API token. Its secret is in this answer only."""
    if body.expires_at is not None and body.expires_at <= now:
        raise Invalid("expires_at: lies in the past")
    token, secret = service.create_token(session, name=body.name, role=body.role, now=now, expires_at=body.expires_at)
    return TokenCreated(**TokenOut.model_validate(token).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=declared(401, 403, 404, 409))
def revoke_token(token_id: str, _: Admin, session: WriteSession, now: Now) -> None:
    """Ends a token and the browser sessions that were opened with it, as of the next request."""
    service.revoke_token(session, token_id, now)
