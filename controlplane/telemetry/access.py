"""How a Prometheus lets us in: headers, a bearer token or a name and password, its certificate and ours.

What proves who we are is read at each request where it stands in a file, so that a token that is renewed is taken up; it goes to
the one host that was named, since redirects are not followed, and stands in no error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import requests
from pydantic import SecretStr
from requests.auth import AuthBase, HTTPBasicAuth

from controlplane.errors import Invalid
from controlplane.settings import ControlPlaneSettings


class CredentialUnreadable(Exception):
    """A file that holds a credential cannot be read; the text names it, and nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class PrometheusAccess:
    """headers go with every request. Of token file and user at most one is set. Certificates are PEM files."""

    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    token_file: Path | None = None
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    verify: bool = True

    @classmethod
    def of(cls, settings: ControlPlaneSettings) -> Self:
        return cls(
            headers=settings.prometheus_headers,
            token_file=settings.prometheus_bearer_token_file,
            user=settings.prometheus_user,
            password=settings.prometheus_password,
            password_file=settings.prometheus_password_file,
            ca_file=settings.prometheus_ca_file,
            client_certificate_file=settings.prometheus_client_certificate_file,
            client_key_file=settings.prometheus_client_key_file,
            verify=settings.prometheus_verify,
        )

    def session(self, url: str) -> requests.Session:
        """One for one thread. Without the credentials of the user's ~/.netrc; proxies of the environment hold."""
        made = requests.Session()
        made.max_redirects = 0
        made.headers.update({name: value.get_secret_value() for name, value in self.headers.items()})
        made.auth = _Credentials(self, urlsplit(url).netloc)
        made.verify = str(self.ca_file) if self.ca_file is not None and self.verify else self.verify
        if self.client_certificate_file is not None:
            key = self.client_key_file or self.client_certificate_file
            made.cert = (str(self.client_certificate_file), str(key))
        return made

    def credential(self) -> AuthBase | None:
        """What is to be shown now. Raises CredentialUnreadable."""
        if self.token_file is not None:
            return _Bearer(_read(self.token_file))
        if self.user is not None:
            secret = self.password.get_secret_value() if self.password is not None else ""
            if self.password_file is not None:
                secret = _read(self.password_file)
            return HTTPBasicAuth(self.user.encode(), secret.encode())
        return None


def without_user(url: str, access: PrometheusAccess) -> tuple[str, PrometheusAccess]:
    """The address without what stands before its `@`, and that as a name and password where none other are given."""
    parts = urlsplit(url.rstrip("/"))
    user, _, host = parts.netloc.rpartition("@")
    if not user:
        return parts.geturl(), access
    if access.user is not None or access.token_file is not None:
        raise Invalid("the address of Prometheus names a user, and so do the settings: leave one of them out")
    name, _, password = user.partition(":")
    named = PrometheusAccess(
        headers=access.headers, user=unquote(name), password=SecretStr(unquote(password)), ca_file=access.ca_file,
        client_certificate_file=access.client_certificate_file, client_key_file=access.client_key_file,
        verify=access.verify,
    )  # fmt: skip
    return parts._replace(netloc=host).geturl(), named


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Credentials(AuthBase):
    """There always is one, even with nothing to show: else requests would look into ~/.netrc."""

    def __init__(self, access: PrometheusAccess, host: str) -> None:
        self._access, self._host = access, host

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        found = self._access.credential()
        if found is None or urlsplit(request.url or "").netloc != self._host:
            return request
        shown: requests.PreparedRequest = found(request)
        return shown


def _read(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "cannot be read") if isinstance(error, OSError) else "is not text"
        raise CredentialUnreadable(f"{path}: {why}") from None
    if not secret or not secret.isprintable():
        raise CredentialUnreadable(f"{path}: holds {'more than one line' if secret else 'nothing'}")
    return secret
