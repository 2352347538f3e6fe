"""What Alertmanager (webhook version 4) and Grafana's alerting (its dialect of it) send.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config ; Grafana adds fields and writes version 1.
"""

import hashlib
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

MOST_ALERTS = 1000
Labels = dict[str, str]


class _Foreign(BaseModel):
    """Others may add fields at any time: what we do not know is not ours to refuse."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AlertIn(_Foreign):
    """endsAt is year 1 while the alert fires."""

    status: Literal["firing", "resolved"]
    labels: Labels = Field(max_length=200)
    annotations: Labels = Field(default_factory=dict, max_length=200)
    startsAt: AwareDatetime  # noqa: N815 (their name)
    generatorURL: str = Field(default="", max_length=10_000)  # noqa: N815
    fingerprint: str = Field(default="", max_length=64)

    @property
    def identity(self) -> str:
        """The fingerprint, or where a sender has none a hash of the labels, which is what a fingerprint is."""
        if self.fingerprint:
            return self.fingerprint
        text = "\n".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "(no name)")[:200]


class GroupIn(_Foreign):
    """One notification: the alerts of a group."""

    version: str = Field(max_length=8)
    groupKey: str = Field(default="", max_length=10_000)  # noqa: N815
    truncatedAlerts: int = Field(default=0, ge=0)  # noqa: N815
    alerts: list[AlertIn] = Field(max_length=MOST_ALERTS)


class AlertmanagerIn(GroupIn):
    version: Literal["4"]


class GrafanaIn(GroupIn):
    version: Literal["1"]
