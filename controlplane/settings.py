"""Process settings of the control plane: read once at start, then passed on."""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2


RoleName = Literal["viewer", "operator", "approver", "admin"]


class OidcRole(BaseModel):
    """What a group of the identity provider may do: everywhere, or in one pool (`fleet/pool`, or the pool's name)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field(min_length=1, max_length=255)
    role: RoleName
    pool: str | None = Field(default=None, min_length=1, max_length=127)


class ControlPlaneSettings(BaseSettings):
    """One object for API, controller and workers; every field is `CONTROLPLANE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="CONTROLPLANE_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: str = "sqlite:///trimtab.sqlite3"
    redis_url: str = "redis://127.0.0.1:6379/0"
    prometheus_url: str = "http://127.0.0.1:9090"
    prometheus_timeout_s: float = Field(default=5.0, gt=0)
    prometheus_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description='sent with every query, as JSON: {"X-Scope-OrgID": "team-a"}'
    )
    prometheus_bearer_token_file: Path | None = Field(default=None, description="read anew at each query")
    prometheus_user: str | None = Field(default=None, description="for basic authentication")
    prometheus_password: SecretStr | None = None
    prometheus_password_file: Path | None = Field(default=None, description="read anew at each query")
    prometheus_ca_file: Path | None = Field(default=None, description="PEM, instead of the system's authorities")
    prometheus_client_certificate_file: Path | None = Field(default=None, description="PEM, with its key or without")
    prometheus_client_key_file: Path | None = None
    prometheus_verify: bool = Field(
        default=True, description="false takes any certificate: whoever stands between reads and answers"
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=1, le=65535)
    public_url: str | None = Field(
        default=None, description="how people and nodes reach the API; by default host and port"
    )

    enrolment_token: SecretStr | None = Field(default=None, description="what a new node must show once to join")
    admin_token: SecretStr | None = Field(
        default=None, description="an API token with role admin, created at start if absent"
    )

    oidc_issuer: str | None = Field(
        default=None, description="the identity provider's issuer, exactly as it says itself"
    )
    oidc_name: str = Field(default="single sign-on", max_length=40, description="what people call the provider")
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_client_secret_file: Path | None = Field(default=None, description="read anew at each sign-in")
    oidc_client_auth: Literal["client_secret_basic", "client_secret_post", "none"] = "client_secret_basic"
    oidc_scopes: tuple[str, ...] = Field(default=("openid", "profile", "email"), description="as JSON")
    oidc_name_claim: str = Field(default="preferred_username", description="names a user at their first sign-in")
    oidc_groups_claim: str = Field(default="groups", description="a list; a dotted name leads into objects")
    oidc_roles: tuple[OidcRole, ...] = Field(
        default=(),
        description='as JSON: [{"group": "sre", "role": "admin"}, {"group": "a", "role": "operator", "pool": "chat"}]',
    )
    oidc_default_role: RoleName | None = Field(
        default=None, description="of who is in no group that has a role; by default they may not come in"
    )
    oidc_session_s: float = Field(
        default=43_200.0,
        ge=60,
        le=604_800,
        description="after so long the provider is asked again, and groups count anew",
    )
    oidc_clock_skew_s: float = Field(default=60.0, ge=0, le=300, description="by which the provider's clock may be off")
    oidc_ca_file: Path | None = Field(default=None, description="PEM, instead of the system's authorities")

    requests_per_s: float = Field(
        default=200.0, gt=0, description="what one signed-in caller may ask of one API process; twice as many at once"
    )

    tick_s: float = Field(default=15.0, gt=0, description="how often each pool is observed, forecast and decided")
    window_s: float = Field(default=15.0, gt=0, description="length of one observation")
    scrape_interval_s: float = Field(
        default=5.0, gt=0, description="what Prometheus scrapes at; rates need two scrapes"
    )
    reconcile_s: float = Field(default=1.0, gt=0, description="how often rollouts and desired settings are reconciled")
    worker_concurrency: int = Field(default=2, ge=1, le=64, description="pushes that one worker process does at once")
    lease_s: float = Field(default=15.0, gt=0, description="how long a controller leads without renewing")
    heartbeat_timeout_s: float = Field(
        default=15.0, gt=0, description="silence after which a node counts as unreachable"
    )
    push_timeout_s: float = Field(default=5.0, gt=0)

    mesh_dir: Path | None = Field(
        default=None, description="folder in which the controller keeps each pool's mesh route as a file"
    )
    kubernetes_url: str | None = Field(
        default=None,
        description="the Kubernetes API that mesh routes are applied through; in a cluster https://kubernetes.default.svc",
    )
    kubernetes_token: SecretStr | None = Field(default=None, description="bearer token; by default the one in the file")
    kubernetes_token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    kubernetes_ca_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")

    audit_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="signs the history once a minute; the same for workers and who verifies",
    )
    secret_key_file: Path | None = Field(
        default=None,
        description="keys that secrets in the database are sealed with, one a line, the newest first; the same for all processes",
    )
    secret_keys: SecretStr | None = Field(
        default=None, description="the same keys, instead of the file; commas between"
    )
    webhook_allowed_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description='own networks that webhooks may go to, as JSON: ["10.20.0.0/16"]; else the internet only',
    )
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=25, description="what a webhook's receiver has to answer in"
    )

    log_level: str = "INFO"
    log_json: bool = False
    data_dir: Path | None = None

    @field_validator("prometheus_headers")
    @classmethod
    def _headers_are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not re.fullmatch(_HEADER_NAME, name):
                raise ValueError(f"{name!r} is no header's name")
            if not value.get_secret_value().isprintable() or not value.get_secret_value().isascii():
                raise ValueError(f"the value of {name} holds what no header may: line ends or letters beyond ASCII")
        return headers

    @model_validator(mode="after")
    def _prometheus_knows_us_by_one_thing(self) -> Self:
        ways = {
            "prometheus_bearer_token_file": self.prometheus_bearer_token_file is not None,
            "prometheus_user": self.prometheus_user is not None,
            "an Authorization header": any(name.lower() == "authorization" for name in self.prometheus_headers),
        }
        if sum(ways.values()) > 1:
            raise ValueError(f"{' and '.join(name for name, given in ways.items() if given)}: leave all but one out")
        passwords = (self.prometheus_password, self.prometheus_password_file)
        if all(passwords) or (any(passwords) and self.prometheus_user is None):
            raise ValueError("prometheus_password or prometheus_password_file, one of them, goes with prometheus_user")
        if self.prometheus_client_key_file is not None and self.prometheus_client_certificate_file is None:
            raise ValueError("prometheus_client_key_file goes with prometheus_client_certificate_file")
        if not self.prometheus_verify and self.prometheus_ca_file is not None:
            raise ValueError("prometheus_verify=false would leave prometheus_ca_file unread")
        return self

    @model_validator(mode="after")
    def _the_provider_can_be_asked(self) -> Self:
        if self.oidc_issuer is None:
            return self
        parts = urlsplit(self.oidc_issuer)
        is_here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if not parts.hostname or parts.query or parts.fragment or not (parts.scheme == "https" or is_here):
            raise ValueError("oidc_issuer: an https address without ? and # (http on loopback only)")
        if self.oidc_client_id is None:
            raise ValueError(
                "oidc_client_id is missing: the provider gives one out when the client is registered there"
            )
        secrets = (self.oidc_client_secret is not None) + (self.oidc_client_secret_file is not None)
        if secrets != (0 if self.oidc_client_auth == "none" else 1):
            raise ValueError(
                'give oidc_client_secret or oidc_client_secret_file; for a client without, oidc_client_auth="none"'
            )
        if "openid" not in self.oidc_scopes:
            raise ValueError("oidc_scopes: openid must be among them")
        if not self.oidc_roles and self.oidc_default_role is None:
            raise ValueError("oidc_roles or oidc_default_role is missing: nobody could come in")
        return self

    @model_validator(mode="after")
    def _keys_stand_in_one_place(self) -> Self:
        if self.secret_key_file is not None and self.secret_keys is not None:
            raise ValueError("secret_key_file and secret_keys: leave one of them out")
        return self

    @model_validator(mode="after")
    def _windows_hold_two_scrapes(self) -> Self:
        if self.window_s < 2 * self.scrape_interval_s:
            raise ValueError(
                f"window_s={self.window_s} must be at least twice scrape_interval_s={self.scrape_interval_s}: "
                "a rate needs two scrapes"
            )
        return self

    @property
    def base_url(self) -> str:
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")
