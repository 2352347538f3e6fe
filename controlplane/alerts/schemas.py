"""What clients send and see of alerts."""

from typing import Annotated

from pydantic import Field

from controlplane.alerts.models import Action, EffectState
from controlplane.schemas import Body, Out, UtcTime


class AlertRuleIn(Body):
    name: str = Field(min_length=1, max_length=64, pattern=r"^\S(.*\S)?$")
    matchers: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        min_length=1,
        max_length=20,
        description='as in Alertmanager, all must match: `severity="page"`, `alertname=~"Pool.*"`',
    )
    action: Action
    pool_id: str | None = Field(
        default=None, max_length=36, description="where to act; absent: in the pool that the alert's labels name"
    )
    enabled: bool = True


class AlertRuleOut(Out):
    id: str
    name: str
    matchers: list[str]
    action: Action
    pool_id: str | None
    enabled: bool
    created_at: UtcTime
    created_by: str


class EffectOut(Out):
    rule_name: str
    action: Action
    pool_id: str | None
    rollout_id: str | None
    state: EffectState
    at: UtcTime
    detail: str
    lifted_at: UtcTime | None


class AlertOut(Out):
    id: str
    source: str
    name: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    pool_id: str | None
    generator_url: str
    starts_at: UtcTime
    received_at: UtcTime
    last_seen_at: UtcTime
    resolved_at: UtcTime | None
    effects: list[EffectOut]


class TakenOut(Out):
    fired: int
    repeated: int
    resolved: int
    effects: list[EffectOut]
