"""Sign-in at the identity provider, as a browser walks it: there, back with a code, and into the web app.

People see these answers in the address bar, so whatever goes wrong leads to the sign-in page with one word for why. The two that
a browser is sent to are no part of the API's description: no program calls them, and anybody may.
"""

from datetime import timedelta
from enum import StrEnum
from typing import cast
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from controlplane.accounts import sessions, users
from controlplane.accounts.dependencies import Cookie, Viewer, cookie_name
from controlplane.accounts.entrances import Enter
from controlplane.accounts.known import CHANGES_WHO_BY_GET
from controlplane.accounts.oidc import attempt, people
from controlplane.accounts.oidc.attempt import Attempt
from controlplane.accounts.oidc.terms import NotBelieved, Provider, ProviderUnavailable
from controlplane.accounts.schemas import SignedOutOut
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings
from controlplane.errors import Conflict, TooMany
from controlplane.problem import declared
from controlplane.settings import ControlPlaneSettings

log = structlog.get_logger(__name__)
router = APIRouter(tags=["accounts"], dependencies=[CHANGES_WHO_BY_GET])


class Why(StrEnum):
    """Why somebody is back at the sign-in page: `/#sign-in=…`."""

    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"
    NOT_ALLOWED = "not-allowed"
    DISABLED = "disabled"
    NAME_TAKEN = "name-taken"
    NO_NAME = "no-name"
    TOO_MANY = "too-many"


@router.get("/session/oidc", status_code=303, include_in_schema=False)
def begin_oidc(
    request: Request,
    settings: ProcessSettings,
    then: str | None = None,
) -> Response:
    """Sends the browser to the identity provider; `then`: the page to open afterwards. A link leads here, not a script."""
    provider = _provider(request)
    if provider is None:
        return _back(Why.UNAVAILABLE)
    try:
        address, asked = provider.begin()
    except ProviderUnavailable as error:
        log.warning("oidc_unavailable", why=error.detail)
        return _back(Why.UNAVAILABLE)
    answer = RedirectResponse(address, status_code=303)
    _keep(answer, settings, Attempt(asked, attempt.place(then)))
    return answer


@router.get("/session/oidc/callback", status_code=303, include_in_schema=False)
def finish_oidc(
    request: Request,
    enter: Enter,
    engine: DatabaseEngine,
    settings: ProcessSettings,
    now: Now,
    response: Response,
    code: str = "",
    state: str = "",
    iss: str | None = None,
    error: str = "",
) -> Response:
    """Where the provider sends the browser back to. Opens a session for whom it names."""
    provider, kept = _provider(request), Attempt.from_cookie(request.cookies.get(_cookie(settings), ""))
    if provider is None:
        return _back(Why.UNAVAILABLE)
    if kept is None or not kept.is_answered_by(state):
        return _back(Why.EXPIRED, settings)
    if error:
        return _back(Why.CANCELLED if error == "access_denied" else Why.REFUSED, settings)
    try:
        enter.admit()
        provider.check_issuer(iss)
        person = provider.finish(code, kept.asked, now)
        with session_scope(engine) as session:
            user = people.welcome(session, person, settings, now)
            enter.open(session, user, now, lifetime=timedelta(seconds=settings.oidc_session_s))
    except (
        ProviderUnavailable,
        NotBelieved,
        people.NotAllowed,
        people.Disabled,
        people.NoName,
        Conflict,
        TooMany,
    ) as why:
        log.warning("oidc_refused", why=why.detail)
        if isinstance(why, NotBelieved):
            enter.note_failure()
        return _back(_why(why), settings)
    answer = RedirectResponse(kept.then, status_code=303)
    answer.raw_headers.extend(pair for pair in response.raw_headers if pair[0] == b"set-cookie")
    _forget(answer, settings)
    return answer


@router.post("/session/oidc/end", responses=declared(401, 403))
def end_oidc(
    request: Request,
    response: Response,
    who: Viewer,
    cookie: Cookie,
    engine: DatabaseEngine,
    settings: ProcessSettings,
    now: Now,
) -> SignedOutOut:
    """Ends the browser session; for who came in by the identity provider, says where their session there is ended, too."""
    with session_scope(engine) as session:
        came_by_it = who.user_id is not None and bool(users.get_user(session, who.user_id).identities)
        if cookie:
            sessions.close_session(session, cookie, now)
    response.delete_cookie(cookie_name(settings), path="/")
    provider = _provider(request) if came_by_it else None
    return SignedOutOut(url=None if provider is None else provider.sign_out_url())


def _why(error: Exception) -> Why:
    match error:
        case ProviderUnavailable():
            return Why.UNAVAILABLE
        case people.NotAllowed():
            return Why.NOT_ALLOWED
        case people.Disabled():
            return Why.DISABLED
        case people.NoName():
            return Why.NO_NAME
        case users.NameTaken():
            return Why.NAME_TAKEN
        case TooMany():
            return Why.TOO_MANY
        case Conflict():
            return Why.EXPIRED
        case _:
            return Why.REFUSED


def _provider(request: Request) -> Provider | None:
    return cast("Provider | None", request.app.state.oidc)


def _back(why: Why, settings: ControlPlaneSettings | None = None) -> Response:
    answer = RedirectResponse(f"/#{urlencode({'sign-in': why})}", status_code=303)
    if settings is not None:
        _forget(answer, settings)
    return answer


def _cookie(settings: ControlPlaneSettings) -> str:
    return f"__Host-{attempt.COOKIE}" if settings.base_url.startswith("https://") else attempt.COOKIE


def _keep(answer: Response, settings: ControlPlaneSettings, kept: Attempt) -> None:
    # Lax, not Strict: the way back begins at another site.
    answer.set_cookie(
        _cookie(settings), kept.to_cookie(), max_age=attempt.LIFETIME_S, path="/", httponly=True, samesite="lax",
        secure=settings.base_url.startswith("https://"),
    )  # fmt: skip


def _forget(answer: Response, settings: ControlPlaneSettings) -> None:
    answer.delete_cookie(_cookie(settings), path="/", httponly=True, secure=settings.base_url.startswith("https://"))
