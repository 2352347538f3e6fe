"""A sign-in on its way, kept by the browser that began it: a cookie for ten minutes, so that nobody else's answer fits.

Nothing of it is secret to that browser, and nobody else reads it: HttpOnly, and over https bound to the host. The code that comes
back is good once at the provider.
"""

import base64
import hmac
import json
import re
from dataclasses import dataclass

from controlplane.accounts.oidc.terms import Asked

COOKIE = "trimtab_oidc"
LIFETIME_S = 600
# A place in the web app, never another host (`//host`, `/\host`), and no control characters.
_PLACE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,500}")


@dataclass(frozen=True, slots=True)
class Attempt:
    asked: Asked
    then: str

    def to_cookie(self) -> str:
        text = json.dumps([self.asked.state, self.asked.nonce, self.asked.verifier, self.then])
        return base64.urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def from_cookie(cls, cookie: str) -> "Attempt | None":
        """None for what we have not made."""
        try:
            state, nonce, verifier, then = json.loads(base64.urlsafe_b64decode(cookie))
        except (ValueError, TypeError):
            return None
        if not all(isinstance(each, str) and each for each in (state, nonce, verifier, then)):
            return None
        return cls(Asked(state, nonce, verifier), place(then))

    def is_answered_by(self, state: str) -> bool:
        return hmac.compare_digest(self.asked.state.encode(), state.encode())


def place(then: str | None) -> str:
    """Where to go afterwards: what was asked for if it lies in the web app, else its front page."""
    return then if then is not None and _PLACE.fullmatch(then) else "/"
