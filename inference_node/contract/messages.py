"""What nodes and the control plane say to each other, as JSON over HTTP.

Node to control plane: `NodeRegistration`, `Heartbeat`. Control plane to node: `SettingsPush`, answered by `SettingsAck`.
`generation` numbers the wishes for one node and only grows; `epoch` numbers the controllers and fences off deposed ones.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from inference_node.contract.quality import NodeQuality
from inference_node.contract.served import ServedQuality, ServedWatch
from inference_node.contract.settings import EngineSettings, KnobBounds, KvPrecision, Precision
from inference_node.contract.step_profile import StepProfile

CONTRACT_VERSION = 1

# What a 32-bit integer column holds: a number beyond it is a fault of the sender, not of the database.
MAX_NUMBER = 2**31 - 1
# Steps are counted for years at thousands a second; doubles of JSON readers are exact to here.
MAX_STEP = 2**53
# An experiment that nobody looks at for a day is no experiment any more.
MAX_LEASE_S = 86_400.0

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", description="lower-case DNS-like name")]


class _Message(BaseModel):
    # Unknown fields are ignored on the wire, so that an older side understands a newer one.
    model_config = ConfigDict(frozen=True, extra="ignore")


class NodeState(StrEnum):
    """Where a node is in its life, as it says itself."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class AckOutcome(StrEnum):
    """What became of a push: applied between two steps, being prepared beside the running engine, or already in force."""

    APPLIED = "applied"
    PREPARING = "preparing"
    UNCHANGED = "unchanged"


# Counted beside the outcomes of pushes: a lease has ended.
LAPSED = "lapsed"


class RejectCode(StrEnum):
    """Why a push was refused (`code` of the node's error body)."""

    STALE_EPOCH = "stale_epoch"
    STALE_GENERATION = "stale_generation"
    CONFLICT = "conflict"
    OUT_OF_BOUNDS = "out_of_bounds"
    NOT_SUPPORTED = "not_supported"
    OUT_OF_MEMORY = "out_of_memory"
    QUALITY = "quality"  # answers would be worse than this node's ceiling allows; `force` overrides
    INVALID = "invalid"  # the document itself is malformed


class NodeCapabilities(_Message):
    """What this node can be set to, beyond the product's own bounds."""

    precisions: tuple[Precision, ...]
    kv_precisions: tuple[KvPrecision, ...] = (KvPrecision.MODEL,)
    max_batch_size: int = Field(ge=1, le=MAX_NUMBER)
    max_batched_tokens: int = Field(ge=64, le=MAX_NUMBER)
    max_model_len: int = Field(ge=1, le=MAX_NUMBER, description="longest prompt plus answer, in tokens")
    kv_tokens: int = Field(ge=1, le=MAX_NUMBER, description="tokens the KV cache holds in all")
    quality: NodeQuality | None = Field(
        default=None,
        description="levels that were measured here, good and bad; others are measured before they are applied",
    )


class NodeHardware(_Message):
    """The machine below the node, for people and for the performance model."""

    device: str = Field(description="cpu or the name of the accelerator")
    cpu_model: str = ""
    cpu_cores: int = Field(ge=1, le=MAX_NUMBER)
    threads: int = Field(ge=1, le=MAX_NUMBER, description="threads that the engine computes with")
    memory_bytes: int = Field(ge=0)
    features: tuple[str, ...] = Field(default=(), description="instruction sets that matter: avx512_bf16, amx_bf16 …")
    hardware_class: str = Field(default="", description="row of the node's hardware table: x86-amx, x86-avx2 …")
    physical_cores: int = Field(
        default=0, ge=0, le=MAX_NUMBER, description="usable cores, each counted once; 0 unknown"
    )
    numa_nodes: int = Field(default=0, ge=0, le=MAX_NUMBER, description="parts of the memory with CPUs of their own")
    read_bytes_per_s: float = Field(default=0, ge=0, description="memory read at best, measured; 0 unknown")
    flops_per_s: dict[str, float] = Field(
        default_factory=dict, description="operations of matrix products at best, measured, by format: fp32, bf16"
    )


class NodeRegistration(_Message):
    """First word of a node. Repeated after each restart; the same `name` keeps the same node id."""

    contract_version: int = CONTRACT_VERSION
    name: Name
    pool: Name
    fleet: Name = "default"
    model: str
    url: str = Field(description="base URL under which control plane, Prometheus and clients reach the node")
    admin_token: str = Field(
        min_length=16, description="bearer that the control plane uses at the node's admin endpoints"
    )
    instance_id: str = Field(description="changes with each start of the process")
    version: str
    capabilities: NodeCapabilities
    hardware: NodeHardware
    settings: EngineSettings
    observed_generation: int = Field(ge=0, le=MAX_NUMBER)
    observed_epoch: int = Field(default=0, ge=0, le=MAX_NUMBER)
    step_profile: StepProfile = StepProfile()


class NodeRegistered(_Message):
    """Answer to a registration. `token` authenticates this node from now on and is shown only here."""

    node_id: str
    token: str
    heartbeat_interval_s: float = 5.0
    long_poll_s: float = 25.0


class Heartbeat(_Message):
    """What a node reports every few seconds."""

    instance_id: str
    state: NodeState
    observed_generation: int = Field(ge=0, le=MAX_NUMBER)
    observed_epoch: int = Field(ge=0, le=MAX_NUMBER)
    config_hash: str
    settings: EngineSettings
    applied_step: int = Field(
        default=0, ge=0, le=MAX_STEP, description="engine step from which these settings are in force"
    )
    preparing_generation: int | None = Field(
        default=None, ge=0, le=MAX_NUMBER, description="generation being prepared in the background"
    )
    rejected_generation: int | None = Field(default=None, ge=0, le=MAX_NUMBER)
    rejected_reason: str | None = None
    drifted: bool = Field(default=False, description="settings were changed on the node itself since the last push")
    edited: bool = Field(
        default=False,
        description="what drifted was edited by an operator in this life of the process: it runs what is wanted",
    )
    lapsed: bool = Field(
        default=False, description="the lease of the observed generation has ended here: its fallback is in force"
    )
    running: int = Field(default=0, ge=0, le=MAX_NUMBER)
    waiting: int = Field(default=0, ge=0, le=MAX_NUMBER)
    kv_usage: float = Field(default=0.0, ge=0.0, le=1.0)
    step: int = Field(default=0, ge=0, le=MAX_STEP)
    step_profile: StepProfile | None = None
    quality: NodeQuality | None = None
    served: ServedQuality | None = Field(default=None, description="what came of a watch, when that is news")


class HeartbeatReply(_Message):
    """What the control plane wants of the node by now; a newer generation than applied is fetched at once."""

    desired_generation: int = Field(ge=0, le=MAX_NUMBER)
    desired_hash: str | None = None
    watch: ServedWatch | None = Field(
        default=None, description="what to score again of what is served, once its generation is in force"
    )


class SettingsPush(_Message):
    """Desired settings of one node: pushed to it, and the same document when it asks for it."""

    node_id: str
    generation: int = Field(ge=1, le=MAX_NUMBER)
    epoch: int = Field(ge=0, le=MAX_NUMBER)
    revision: int = Field(
        ge=0, le=MAX_NUMBER, description="number of the settings revision in its pool; 0 for a manual push"
    )
    config_hash: str
    settings: EngineSettings
    bounds: dict[str, KnobBounds] = Field(default_factory=dict)
    force: bool = Field(default=False, description="skip the quality gate; never skips bounds or memory")
    lease_s: float | None = Field(
        default=None,
        gt=0,
        le=MAX_LEASE_S,
        description="an experiment: so many seconds after these settings came into force the node goes back to `fallback` "
        "by its own clock, whether the control plane is there or not, and at once after a restart",
    )
    fallback: EngineSettings | None = Field(default=None, description="comes with `lease_s`, and only with it")
    issued_at: AwareDatetime
    signature: str | None = Field(
        default=None, max_length=1024, description="by the node's admin token (`inference_node.contract.signing`)"
    )

    @model_validator(mode="after")
    def _lease_has_a_way_back(self) -> Self:
        if (self.lease_s is None) != (self.fallback is None):
            raise ValueError("lease_s and fallback come together: a lease must say what holds after it")
        return self


class SettingsAck(_Message):
    """A node's answer to a push."""

    generation: int
    epoch: int
    outcome: AckOutcome
    applied_step: int | None = Field(description="first engine step under these settings; absent while preparing")
    asked_step: int | None = Field(
        default=None, description="engine step at which the change arrived; older nodes do not tell"
    )
    forced: bool = Field(default=False, description="the quality guard was overridden for this change")
    instance_id: str | None = Field(default=None, description="of the process that answers; older nodes do not tell")
    config_hash: str = Field(description="of the settings in force now")
    settings: EngineSettings = Field(description="the settings in force now")


class SettingsReject(_Message):
    """Body of a 4xx answer to a push; nothing was changed."""

    code: RejectCode
    message: str
    knob: str | None = None
    observed_generation: int = 0
    observed_epoch: int = 0
