"""The identity provider as we see it: its addresses, its keys, codes exchanged for who somebody is. Network only, no session.

What is trusted: the issuer that the operator named, over TLS (plain http on loopback alone), and what its discovery document
says, which must name the same issuer (OpenID Connect Discovery 1.0, 4.3). Redirects are not followed, nothing of the environment
is used. Needs the extra `oidc` (authlib and joserfc).
"""

import ipaddress
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from controlplane.accounts.oidc.terms import Asked, NotBelieved, Person, ProviderUnavailable
from controlplane.errors import Invalid
from controlplane.settings import ControlPlaneSettings

TIMEOUT_S = 5.0
# Discovery and keys are asked for again after so long; for a key that is not known at once, but not more often than KEYS_AGAIN_S.
KEPT_S = 600.0
KEYS_AGAIN_S = 30.0
# Asymmetric ones only: with a shared secret whoever knows it could be anybody.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
AT_MOST_BYTES = 1_000_000
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint")


@dataclass(frozen=True, slots=True)
class _Known:
    at: float
    metadata: Mapping[str, Any]
    keys: KeySet


class OpenIdProvider:
    """One per process; safe from any thread. Raises Invalid for a file of certificates that is none."""

    def __init__(self, settings: ControlPlaneSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        assert settings.oidc_issuer is not None
        self.issuer = settings.oidc_issuer
        self._settings, self._monotonic = settings, monotonic
        self._known: _Known | None = None
        self._lock = threading.Lock()
        ca_file = settings.oidc_ca_file
        try:
            self._tls = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except OSError as error:
            raise Invalid(f"CONTROLPLANE_OIDC_CA_FILE {ca_file}: {error.strerror or 'holds no certificates'}") from None

    @property
    def redirect_uri(self) -> str:
        return f"{self._settings.base_url}/api/v1/session/oidc/callback"

    def begin(self) -> tuple[str, Asked]:
        """Where to send the browser. Raises ProviderUnavailable."""
        asked = Asked(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))
        with self._client() as client:
            address, _ = client.create_authorization_url(
                self._metadata()["authorization_endpoint"], state=asked.state, nonce=asked.nonce,
                code_verifier=asked.verifier,
            )  # fmt: skip
        return str(address), asked

    def finish(self, code: str, asked: Asked, now: datetime) -> Person:
        """Exchanges the code, and checks the answer's signature and claims. Raises ProviderUnavailable, NotBelieved."""
        metadata = self._metadata()
        with self._client() as client:
            try:
                token = client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=asked.verifier, grant_type="authorization_code",
                )  # fmt: skip
            except OAuthError as error:
                raise NotBelieved(f"the provider refused the code ({error.error})") from None
            except (httpx2.HTTPError, ValueError) as error:
                raise _unavailable(self.issuer, error) from None
            claims = self._claims(str(token.get("id_token") or ""), asked, token, now)
            if self._settings.oidc_groups_claim not in claims and "userinfo_endpoint" in metadata:
                claims |= self._userinfo(client, str(metadata["userinfo_endpoint"]), claims["sub"])
        return Person(self.issuer, str(claims["sub"]), claims)

    def check_issuer(self, said: str | None) -> None:
        """`iss` of an authorization response (RFC 9207): an answer of another provider is not for us. Raises NotBelieved."""
        is_promised = self._metadata().get("authorization_response_iss_parameter_supported") is True
        if (said is None and is_promised) or (said is not None and said != self.issuer):
            raise NotBelieved("the answer is not of the provider that was asked")

    def sign_out_url(self) -> str | None:
        """Where the provider's own session is ended (RP-Initiated Logout 1.0); None where it offers none, or does not answer."""
        try:
            address = self._metadata().get("end_session_endpoint")
        except ProviderUnavailable:
            return None
        back = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": f"{self._settings.base_url}/"}
        return None if address is None else f"{address}{'&' if '?' in address else '?'}{urlencode(back)}"

    def _claims(self, id_token: str, asked: Asked, token: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """OpenID Connect Core 1.0, 3.1.3.7."""
        try:
            decoded = self._decoded(id_token)
            found = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self.issuer},
                    "aud": {"essential": True, "value": self._settings.oidc_client_id},
                    "sub": {"essential": True},
                },
                {
                    "nonce": asked.nonce,
                    "client_id": self._settings.oidc_client_id,
                    "access_token": token.get("access_token"),
                },
            )
            found.validate(now=int(now.timestamp()), leeway=round(self._settings.oidc_clock_skew_s))
        except JoseError as error:
            raise NotBelieved(f"the identity token does not hold ({error.error})") from None
        except (ValueError, TypeError, KeyError) as error:
            raise NotBelieved(f"the identity token is none ({type(error).__name__})") from None
        if not isinstance(found["sub"], str) or not 0 < len(found["sub"]) <= 255:
            raise NotBelieved("the identity token names nobody")
        audience = found["aud"] if isinstance(found["aud"], list) else [found["aud"]]
        if len(audience) > 1 and found.get("azp") != self._settings.oidc_client_id:
            raise NotBelieved("the identity token was made for another party")
        return dict(found)

    def _decoded(self, id_token: str) -> jwt.Token:
        """Signed by a key of the provider's; one that we have not seen yet is asked for."""
        try:
            return jwt.decode(id_token, self._looked_up().keys, algorithms=ALGORITHMS)
        except JoseError:
            fresh = self._fresh_keys()
            if fresh is None:
                raise
            return jwt.decode(id_token, fresh, algorithms=ALGORITHMS)

    def _userinfo(self, client: OAuth2Client, address: str, subject: str) -> dict[str, Any]:
        try:
            said = _document(client.get(address))
        except (httpx2.HTTPError, ValueError) as error:
            raise _unavailable(self.issuer, error) from None
        if said.get("sub") != subject:  # OpenID Connect Core 1.0, 5.3.2
            raise NotBelieved("what the provider says of somebody is of somebody else")
        return said

    def _metadata(self) -> Mapping[str, Any]:
        return self._looked_up().metadata

    def _fresh_keys(self) -> KeySet | None:
        """None where they were asked for just now."""
        known = self._known
        if known is not None and self._monotonic() - known.at < KEYS_AGAIN_S:
            return None
        return self._looked_up(fresh=True).keys

    def _looked_up(self, *, fresh: bool = False) -> _Known:
        with self._lock:
            known = self._known
            if known is None or fresh or self._monotonic() - known.at > KEPT_S:
                known = self._known = self._look_up()
            return known

    def _look_up(self) -> _Known:
        address = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            with httpx2.Client(timeout=TIMEOUT_S, trust_env=False, verify=self._tls) as client:
                metadata = _document(client.get(address))
                if metadata.get("issuer") != self.issuer:
                    raise ValueError(f"its discovery document is of {str(metadata.get('issuer'))[:200]!r}")
                for name in _ENDPOINTS:
                    if name in metadata and not is_trusted(str(metadata[name])):
                        raise ValueError(f"its {name} is not https")
                for name in _ENDPOINTS[:3]:
                    if name not in metadata:
                        raise ValueError(f"its discovery document names no {name}")
                keys = KeySet.import_key_set(_document(client.get(str(metadata["jwks_uri"]))))  # type: ignore[arg-type]
        except (httpx2.HTTPError, ValueError, TypeError, KeyError, JoseError, OSError) as error:
            raise _unavailable(self.issuer, error) from None
        return _Known(self._monotonic(), metadata, keys)

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            client_id=self._settings.oidc_client_id, client_secret=self._secret(), redirect_uri=self.redirect_uri,
            scope=" ".join(self._settings.oidc_scopes), code_challenge_method="S256", timeout=TIMEOUT_S,
            trust_env=False, verify=self._tls, token_endpoint_auth_method=self._settings.oidc_client_auth,
        )  # fmt: skip

    def _secret(self) -> str | None:
        if self._settings.oidc_client_secret_file is not None:
            try:
                return self._settings.oidc_client_secret_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                path = self._settings.oidc_client_secret_file
                raise ProviderUnavailable(f"CONTROLPLANE_OIDC_CLIENT_SECRET_FILE {path} cannot be read") from None
        secret = self._settings.oidc_client_secret
        return None if secret is None else secret.get_secret_value()


def is_trusted(address: str) -> bool:
    """Whether what goes there cannot be read on the way: https, or http to this very machine."""
    parts = urlsplit(address)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.scheme == "http" and parts.hostname == "localhost"


def _document(response: httpx2.Response) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object, and for redirects."""
    if response.status_code != 200:
        raise ValueError(f"{response.request.url.path} answered {response.status_code}")
    if len(response.content) > AT_MOST_BYTES:
        raise ValueError(f"{response.request.url.path} answered with {len(response.content)} bytes")
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError(f"{response.request.url.path} is no JSON object")
    return found


def _unavailable(issuer: str, error: Exception) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"{issuer} did not answer as an identity provider does ({str(error)[:300] or type(error).__name__}): check "
        "CONTROLPLANE_OIDC_ISSUER, and that this process reaches it; meanwhile sign in by password or token"
    )
