"""Lets a route say which role it needs: `dependencies=[require(Role.VIEWER)]`, or `who: Annotated[Identity, require(...)]`."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.accounts import sessions, tokens
from controlplane.accounts.csrf import is_cross_site
from controlplane.accounts.known import Known, LetIn, known_of
from controlplane.accounts.roles import Identity, Role
from controlplane.accounts.secrets import hash_secret
from controlplane.accounts.throttle import RequestThrottle
from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings
from controlplane.errors import Forbidden, Unauthorized
from controlplane.settings import ControlPlaneSettings

COOKIE = "trimtab_session"
_SIGN_IN = "send `Authorization: Bearer tt_…` or sign in at the web app"

bearer_scheme = HTTPBearer(auto_error=False, scheme_name="token", description="an API token: `tt_…`")
cookie_scheme = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"a signed-in browser; over https the cookie is called `__Host-{COOKIE}`",
)

StillIn = Callable[[], Awaitable[bool]]
PoolOf = Callable[[Session, Mapping[str, str]], str | None]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]


def cookie_name(settings: ControlPlaneSettings) -> str:
    """Over https with the prefix that keeps other hosts of the domain from setting it (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{COOKIE}" if settings.base_url.startswith("https://") else COOKIE


async def session_secret(
    request: Request, settings: ProcessSettings, _: Annotated[str | None, Depends(cookie_scheme)]
) -> str | None:
    """What the browser's cookie holds."""
    return request.cookies.get(cookie_name(settings))


Cookie = Annotated[str | None, Depends(session_secret)]


async def identify(request: Request, bearer: Bearer, cookie: Cookie, engine: DatabaseEngine, now: Now) -> Identity:
    """Who asks. A bearer token counts before the cookie. Raises Unauthorized, and Forbidden for a foreign page's request."""
    shown = bearer.credentials if bearer is not None and bearer.credentials else None
    if shown is None and cookie and is_cross_site(request.method, request.headers):
        raise Forbidden("this request was set off by another site's page: open the web app itself")
    if shown is None and not cookie:
        raise Unauthorized(f"this needs a sign-in: {_SIGN_IN}")
    who = await _let_in(known_of(request), engine, now, token=shown, cookie=cookie)
    if who is None:
        what = "the session has ended" if shown is None else "the token is unknown, expired or revoked"
        raise Unauthorized(f"{what}: {_SIGN_IN}")
    # Raises TooMany for who asks more often than the process bears.
    cast(RequestThrottle, request.app.state.request_throttle).take(who.caller_id, who.name)
    return who


async def _let_in(
    known: Known, engine: Engine, now: datetime, *, token: str | None, cookie: str | None
) -> Identity | None:
    """Who they are, None for a credential that lets nobody in. A token counts before the cookie."""
    secret = token or cookie
    if not secret:
        return None
    key = f"{'token' if token else 'session'} {hash_secret(secret)}"
    who = known.find(key, now)
    if who is not None:
        return who
    before = known.before()
    let_in = await run_in_threadpool(of_token if token else of_session, engine, secret, now)
    if let_in is None:
        return None
    known.keep(key, let_in, before)
    return let_in.who


def of_token(engine: Engine, secret: str, now: datetime) -> LetIn | None:
    """Who acts with a token, and a note of the use; None for one that lets nobody in."""
    with session_scope(engine, read_only=True) as session:
        token = tokens.authenticate_token(session, secret, now)
    if token is None:
        return None
    if tokens.is_use_due(token, now):
        with session_scope(engine) as session:
            tokens.note_use(session, token.id, now)
    return LetIn(tokens.identity_of(token), token.expires_at)


def of_session(engine: Engine, secret: str, now: datetime) -> LetIn | None:
    """Who sits before the browser, and a note that they do; None for a session that has ended."""
    with session_scope(engine, read_only=True) as session:
        row = sessions.authenticate_session(session, secret, now)
    if row is None:
        return None
    if sessions.is_sight_due(row, now):
        with session_scope(engine) as session:
            sessions.note_sight(session, row, now)
    return LetIn(sessions.identity_of(row), row.expires_at)


async def still_in(request: Request, bearer: Bearer, cookie: Cookie, engine: DatabaseEngine) -> StillIn:
    """For answers that outlast the question of who asked: whether the same credential would let them in now."""

    async def ask() -> bool:
        now = cast(Clock, request.app.state.clock).now()
        token = None if bearer is None else bearer.credentials
        return await _let_in(known_of(request), engine, now, token=token, cookie=cookie) is not None

    return ask


def _named_pool(request: Request, engine: Engine) -> str | None:
    """The pool that the path names, or is about."""
    pool_of = cast(PoolOf, request.app.state.pool_of)
    with session_scope(engine, read_only=True) as session:
        return pool_of(session, request.path_params)


class RoleGate:
    """A dependency that lets pass whose role includes `role`, everywhere or in the pool that the path names.

    in_some_pool: for a request whose body names the pool. It passes with the role in any; the endpoint then calls `permit`.
    """

    def __init__(self, role: Role, *, in_some_pool: bool = False) -> None:
        self.role, self.in_some_pool = role, in_some_pool

    async def __call__(
        self, request: Request, who: Annotated[Identity, Depends(identify)], engine: DatabaseEngine
    ) -> Identity:
        if who.role.includes(self.role):
            return who
        if self.in_some_pool and any(role.includes(self.role) for role in who.in_pools.values()):
            return who
        permit(who, self.role, await run_in_threadpool(_named_pool, request, engine) if who.in_pools else None)
        return who


def permit(who: Identity, role: Role, pool_id: str | None) -> None:
    """Raises Forbidden unless they have the role in the pool; None: everywhere."""
    has = who.role_in(pool_id)
    if not has.includes(role):
        where = " in this pool" if who.in_pools and pool_id else ""
        raise Forbidden(
            f"this needs the role {role}{where}; {who.name!r} has {has}: ask an admin for it", required_role=role
        )


def require(role: Role, *, in_some_pool: bool = False) -> Any:
    """Dependency on a role, at least `role`. Gives the `Identity`."""
    return Depends(RoleGate(role, in_some_pool=in_some_pool))


Viewer = Annotated[Identity, require(Role.VIEWER)]
Operator = Annotated[Identity, require(Role.OPERATOR)]
Approver = Annotated[Identity, require(Role.APPROVER)]
Admin = Annotated[Identity, require(Role.ADMIN)]
