"""What the API says of policies."""

from typing import Any

from pydantic import Field

from controlplane.decisions.policy import Policy
from controlplane.schemas import Body, Out, UtcTime


class PolicyOut(Out):
    """A pool's policy. Version 0 are the defaults; the ETag is the version."""

    version: int
    document: Policy


class PolicyVersionOut(PolicyOut):
    created_by: str
    created_at: UtcTime


class PolicySchemaOut(Out):
    """The document's own description, for forms: JSON Schema (2020-12), with bounds, defaults and help."""

    document_schema: dict[str, Any]
    defaults: Policy


class PolicyTrialIn(Body):
    document: Policy
    hours: float = Field(default=24.0, gt=0, le=168, description="how far back to look")


class TrialDifferenceOut(Out):
    """A decision that would have come out otherwise."""

    decision_id: str
    at: UtcTime
    outcome: str
    reason: str
    changes: dict[str, Any] = Field(description="what it changed: knob -> [from, to]")
    would_outcome: str
    would_reason: str
    would_change: dict[str, Any]
    would_explanation: str


class PolicyTrialOut(Out):
    """Past decisions made again, each from its own recorded inputs, under another policy."""

    since: UtcTime
    decisions: int = Field(description="recorded within the time asked for")
    looked_at: int = Field(description="made again, newest first; the rest did not fit into the time of one request")
    proposed: int = Field(description="of those, how many proposed a change")
    would_propose: int = Field(description="how many would have")
    differing: int
    differences: list[TrialDifferenceOut] = Field(description="newest first, at most 50")
