"""Lets a route say which role it needs: `dependencies=[require(Role.VIEWER)]`, or `who: Annotated[Identity, require(...)]`."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from controlplane.accounts import service
from controlplane.accounts.csrf import is_cross_site
from controlplane.accounts.roles import Identity, Role
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now
from controlplane.errors import Forbidden, Unauthorized

COOKIE = "trimtab_session"
_SIGN_IN = "send `Authorization: Bearer tt_…` or sign in at the web app"

bearer_scheme = HTTPBearer(auto_error=False, scheme_name="token", description="an API token: `tt_…`")
cookie_scheme = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="a signed-in browser")

Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
Cookie = Annotated[str | None, Depends(cookie_scheme)]


def identify(request: Request, bearer: Bearer, cookie: Cookie, engine: DatabaseEngine, now: Now) -> Identity:
    """Who asks. A bearer token counts before the cookie. Raises Unauthorized, and Forbidden for a foreign page's request."""
    secret = bearer.credentials if bearer is not None else cookie
    if not secret:
        raise Unauthorized(f"this needs a sign-in: {_SIGN_IN}")
    via_session = bearer is None
    if via_session and is_cross_site(request.method, request.headers):
        raise Forbidden("this request was set off by another site's page: open the web app itself")
    with session_scope(engine, read_only=True) as session:
        check = service.authenticate_session if via_session else service.authenticate_token
        token = check(session, secret, now)
    if token is None:
        what = "the session has ended" if via_session else "the token is unknown, expired or revoked"
        raise Unauthorized(f"{what}: {_SIGN_IN}")
    if service.is_use_due(token, now):
        with session_scope(engine) as session:
            service.note_use(session, token.id, now)
    return service.identity_of(token, via_session=via_session)


class RoleGate:
    """A dependency that lets pass whose role includes `role`. The test of all routes looks for it."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, who: Annotated[Identity, Depends(identify)]) -> Identity:
        if not who.role.includes(self.role):
            raise Forbidden(
                f"this needs the role {self.role}; {who.name!r} has {who.role}: ask an admin for another token",
                required_role=self.role,
            )
        return who


def require(role: Role) -> Any:
    """Dependency on a role, at least `role`. Gives the `Identity`."""
    return Depends(RoleGate(role))


Viewer = Annotated[Identity, require(Role.VIEWER)]
Operator = Annotated[Identity, require(Role.OPERATOR)]
Admin = Annotated[Identity, require(Role.ADMIN)]
