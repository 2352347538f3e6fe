"""What clients send and see of webhooks. No secret is shown but in the answer that makes it."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field, SecretStr

from controlplane.events.kinds import Severity
from controlplane.schemas import Body, Out, UtcTime
from controlplane.webhooks.formats.all import Format
from controlplane.webhooks.models import DeliveryState

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S(.*\S)?$")]
Url = Annotated[
    str, Field(min_length=1, max_length=2000, description="https://…; http:// inside an allowed network only")
]
Kinds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]],
    Field(min_length=1, max_length=100, description="kinds of events, or groups of them: `rollout.*`, or `*`"),
]
Coalesce = Annotated[
    int, Field(ge=0, le=3600, description="seconds in which events gather into one delivery; errors go out at once")
]
Credential = Annotated[
    SecretStr | None,
    Field(
        max_length=2000,
        description="what the receiver asks for beside the address; never shown again. The formats say what it is",
    ),
]
PoolId = Annotated[str | None, Field(max_length=36, description="only events of this pool; absent: of all")]


class WebhookIn(Body):
    name: Name
    url: Url
    format: Format = Format.STANDARD
    kinds: Kinds = ["*"]  # noqa: RUF012 (pydantic copies it)
    pool_id: PoolId = None
    min_severity: Severity = Severity.INFO
    coalesce_s: Coalesce = 0
    credential: Credential = None


class WebhookChange(Body):
    """What is absent stays. The format stays for good: another format is another webhook."""

    name: Name | None = None
    url: Url | None = None
    kinds: Kinds | None = None
    pool_id: PoolId = None
    min_severity: Severity | None = None
    coalesce_s: Coalesce | None = None
    credential: Credential = None
    enabled: bool | None = None


class WebhookOut(Out):
    id: str
    name: str
    url: str = Field(description="without what may be secret in it")
    format: Format
    kinds: list[str]
    pool_id: str | None
    min_severity: str
    coalesce_s: int
    has_credential: bool
    secrets: int = Field(description="how many signing secrets sign at present")
    created_at: UtcTime
    created_by: str
    disabled_at: UtcTime | None
    disabled_reason: str | None
    failures: int = Field(description="attempts since the last one that succeeded")
    held_until: UtcTime | None = Field(description="nothing is sent before, since the receiver failed")
    last_delivered_at: UtcTime | None


class WebhookCreated(WebhookOut):
    signing_secret: str = Field(description="`whsec_…`: stands in this answer only")


class SecretRotation(Body):
    keep_s: int = Field(
        default=86_400, ge=0, le=604_800, description="for how many seconds the secret before signs as well"
    )


class SigningSecret(Out):
    signing_secret: str = Field(description="`whsec_…`: stands in this answer only")


class Recovery(Body):
    since: AwareDatetime = Field(description="what was first owed from then on, and has failed, is sent again")


class Recovered(Out):
    resent: int


class DeliveryOut(Out):
    id: str = Field(description="the `webhook-id`, the same at each attempt")
    webhook_id: str
    kind: str
    num_events: int
    state: DeliveryState
    created_at: UtcTime
    next_at: UtcTime | None
    ended_at: UtcTime | None
    attempts: int = Field(description="ever made")
    last_status: int | None
    last_error: str | None


class AttemptOut(Out):
    number: int
    at: UtcTime
    duration_ms: int
    request_headers: dict[str, Any]
    request_body: str
    status: int | None
    response_headers: dict[str, Any]
    response_body: str
    error: str | None


class DeliveryDetail(DeliveryOut):
    events: list[dict[str, Any]]
    attempts_made: list[AttemptOut]
