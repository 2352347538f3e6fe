"""What a browser's entrances share: no foreign page opens one, failures are counted, and the cookie stands for the session."""

from datetime import datetime, timedelta
from typing import Annotated, cast

from fastapi import Depends, Request, Response
from sqlalchemy.orm import Session

from controlplane.accounts import sessions
from controlplane.accounts.csrf import is_cross_site
from controlplane.accounts.dependencies import cookie_name
from controlplane.accounts.models import ApiToken, User
from controlplane.accounts.throttle import SignInThrottle
from controlplane.dependencies import ProcessSettings
from controlplane.errors import Forbidden


class Entrance:
    """One request of somebody who is not signed in yet."""

    def __init__(self, request: Request, response: Response, settings: ProcessSettings) -> None:
        if is_cross_site(request.method, request.headers):
            raise Forbidden("sign in from the web app itself, not from another site's page")
        self._request, self._response, self._settings = request, response, settings
        self._throttle = cast(SignInThrottle, request.app.state.sign_in_throttle)
        self.address = request.client.host if request.client else "unknown"

    def admit(self, name: str | None = None) -> None:
        """Raises TooMany once the address, or the name from anywhere, has failed too often."""
        self._throttle.check(self.address, name)

    def note_failure(self, name: str | None = None) -> None:
        self._throttle.note_failure(self.address, name)

    def open(
        self, session: Session, of: User | ApiToken, now: datetime, *, lifetime: timedelta = sessions.LIFETIME
    ) -> None:
        """Opens a session and sets its cookie."""
        browser = self._request.headers.get("user-agent", "")
        secret, expires_at = sessions.open_session(
            session, of, now, address=self.address, browser=browser, lifetime=lifetime
        )
        self._response.set_cookie(
            cookie_name(self._settings),
            secret,
            expires=expires_at,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._settings.base_url.startswith("https://"),
        )


Enter = Annotated[Entrance, Depends(Entrance)]
