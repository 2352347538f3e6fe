"""What the rest of the room knows of an identity provider, whether or not the packages that speak to one are installed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from controlplane.errors import Unauthorized, Unavailable


class ProviderUnavailable(Unavailable):
    """The provider did not answer, or not with what a provider answers with."""

    title = "The identity provider is not available"


class NotBelieved(Unauthorized):
    """The provider said no, or what came from it does not hold."""

    title = "The sign-in does not hold"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a browser must bring back, and what the code is exchanged with. All random, good for one sign-in."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who the provider says somebody is: `subject` is the one thing that never changes; claims are what else it says."""

    issuer: str
    subject: str
    claims: Mapping[str, Any]


class Provider(Protocol):
    """The one real one is `provider.OpenIdProvider`."""

    def begin(self) -> tuple[str, Asked]:
        """Where to send the browser. Raises ProviderUnavailable."""

    def check_issuer(self, said: str | None) -> None:
        """Raises NotBelieved, ProviderUnavailable."""

    def finish(self, code: str, asked: Asked, now: datetime) -> Person:
        """Who it is that came back with this code. Raises ProviderUnavailable, NotBelieved."""

    def sign_out_url(self) -> str | None:
        """Where the provider's own session is ended."""
