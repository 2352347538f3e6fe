"""What clients see of revisions, nodes and knobs, as far as this room knows it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from controlplane.fleets.desired import experiment_ends_at
from controlplane.fleets.health import NodeHealth, in_sync, is_quarantined, node_health
from controlplane.fleets.models import Node, SettingsRevision
from controlplane.fleets.views import NodeView, RevisionView
from controlplane.schemas import Body, Out, UtcTime
from inference_node.contract.messages import NodeCapabilities, NodeHardware
from inference_node.contract.settings import ApplyMode, EngineSettings, SafeDirection


class RevisionRef(Out):
    """A settings revision, named where it is used."""

    id: str
    number: int
    settings: EngineSettings

    @classmethod
    def of(cls, revision: SettingsRevision | RevisionView) -> "RevisionRef":
        return cls.model_validate(revision)


class RevisionOut(RevisionRef):
    pool_id: str
    content_hash: str
    created_by: str
    reason: str
    created_at: UtcTime


class DesiredOut(Out):
    """What the node should have."""

    generation: int
    epoch: int
    revision: int
    settings: EngineSettings
    since: UtcTime | None


class ObservedOut(Out):
    """What the node says that it has."""

    generation: int
    epoch: int
    settings: EngineSettings
    hash: str
    at: UtcTime
    applied_step: int


class RejectedOut(Out):
    generation: int
    reason: str


class QuarantineOut(Out):
    until: UtcTime
    reason: str


class ExperimentOut(Out):
    """What is tried on one node alone. It ends by itself, on the node and here."""

    revision: int
    generation: int
    settings: EngineSettings
    lease_s: float = Field(description="seconds, which the node counts from when it applied the settings")
    ends_at: UtcTime = Field(description="when the node is asked to go back, should it not have done so by itself")

    @classmethod
    def of(cls, node: Node | NodeView) -> "ExperimentOut | None":
        ends_at, revision = experiment_ends_at(node), node.desired_revision
        if ends_at is None or node.lease_s is None or revision is None:
            return None
        return cls(
            revision=revision.number,
            generation=node.desired_generation,
            settings=EngineSettings.model_validate(revision.settings),
            lease_s=node.lease_s,
            ends_at=ends_at,
        )


class NodeOut(Out):
    id: str
    name: str
    pool_id: str
    pool: str
    url: str
    model: str
    health: NodeHealth
    state: str = Field(description="what the node last said of itself; `health` also knows silence")
    last_heartbeat_at: UtcTime
    registered_at: UtcTime
    started_at: UtcTime
    version: str
    hardware: NodeHardware
    capabilities: NodeCapabilities
    running: int
    waiting: int
    kv_usage: float = Field(description="share of KV blocks in use, 0 to 1")
    desired: DesiredOut | None
    observed: ObservedOut
    in_sync: bool
    preparing_generation: int | None
    rejected: RejectedOut | None
    drifted: bool
    quarantine: QuarantineOut | None = Field(description="changes leave the node out for now")

    experiment: ExperimentOut | None = Field(description="settings that are tried on this node alone, under a lease")

    @classmethod
    def fields_of(cls, node: Node | NodeView, *, now: datetime, timeout_s: float) -> dict[str, Any]:
        """The fields that this room knows; rooms above add theirs."""
        revision = node.desired_revision
        return {
            "id": node.id,
            "name": node.name,
            "pool_id": node.pool_id,
            "pool": node.pool.name,
            "url": node.url,
            "model": node.pool.model,
            "health": node_health(node, now, timeout_s),
            "state": node.state,
            "last_heartbeat_at": node.last_heartbeat_at,
            "registered_at": node.registered_at,
            "started_at": node.started_at,
            "version": node.version,
            "hardware": node.hardware,
            "capabilities": node.capabilities,
            "running": node.running,
            "waiting": node.waiting,
            "kv_usage": node.kv_usage,
            "desired": None
            if revision is None
            else DesiredOut(
                generation=node.desired_generation,
                epoch=node.desired_epoch,
                revision=revision.number,
                settings=EngineSettings.model_validate(revision.settings),
                since=node.desired_since,
            ),
            "observed": ObservedOut(
                generation=node.observed_generation,
                epoch=node.observed_epoch,
                settings=EngineSettings.model_validate(node.observed_settings),
                hash=node.observed_hash,
                at=node.observed_at,
                applied_step=node.applied_step,
            ),
            "in_sync": in_sync(node),
            "preparing_generation": node.preparing_generation,
            "rejected": None
            if node.rejected_generation is None
            else RejectedOut(generation=node.rejected_generation, reason=node.rejected_reason or ""),
            "drifted": node.drifted,
            "quarantine": QuarantineOut(until=node.quarantined_until, reason=node.quarantined_reason or "")
            if node.quarantined_until is not None and is_quarantined(node, now)
            else None,
            "experiment": ExperimentOut.of(node),
        }


class FreezeIn(Body):
    reason: str = Field(min_length=1, max_length=500, description="why; shown to everybody who wonders")


class FrozenOut(Out):
    at: UtcTime
    reason: str


class GeneralFreezeOut(FrozenOut):
    """No pool may change, whichever there are."""

    actor: str = Field(description="who froze everything")


class KnobOut(Out):
    """A tunable, as forms need it."""

    name: str
    kind: Literal["int", "float", "bool", "choice"]
    unit: str
    minimum: float | None
    maximum: float | None
    choices: list[str]
    default: bool | int | float | str
    apply_mode: ApplyMode
    safe_direction: SafeDirection
    changes_numerics: bool
    help: str


class SdTarget(Out):
    """One element of Prometheus' http_sd format."""

    targets: list[str]
    labels: dict[str, str]
