"""Every knob that can be turned on a running engine, declared once.

The node, the optimizer, the REST schema, the web form and the command line all read `EngineSettings` and `KNOBS`; a knob
that is added here appears in each of them. Process settings that never change at run time live in `inference_node.config`.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Precision(StrEnum):
    """Format of the weights in memory; what a node really has is in its registration."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class KvPrecision(StrEnum):
    """Format of cached keys and values; `model` follows the arithmetic of the weights. int8 has a scale a token and head."""

    MODEL = "model"
    INT8 = "int8"
    FP8 = "fp8"


class SchedulingPolicy(StrEnum):
    """Order in which waiting requests are admitted."""

    FCFS = "fcfs"
    DEADLINE = "deadline"
    PREFIX = "prefix"


class ApplyMode(StrEnum):
    """When a changed knob takes effect: at the next step, after preparation beside the running one, or for new requests."""

    LIVE = "live"
    BACKGROUND = "background"
    DRAIN = "drain"


class SafeDirection(StrEnum):
    """Direction in which a move risks neither memory nor the quality of answers."""

    LOWER = "lower"
    HIGHER = "higher"
    EITHER = "either"


KnobValue = bool | int | float | str


def _knob(
    apply_mode: ApplyMode,
    safe_direction: SafeDirection,
    *,
    unit: str = "",
    changes_numerics: bool = False,
) -> dict[str, Any]:
    return {
        "apply_mode": apply_mode.value,
        "safe_direction": safe_direction.value,
        "unit": unit,
        "changes_numerics": changes_numerics,
    }


class EngineSettings(BaseModel):
    """All tunables of one engine at one moment. Immutable; a change is a new object.

    Bounds here are the product's; a node may offer less (see `NodeCapabilities`), and refuses what it does not have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(
        default=8,
        ge=1,
        le=512,
        description="Sequences that may run at once. Lowering drains; it never aborts a running request.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.LOWER, unit="sequences"),
    )
    batch_wait_ms: float = Field(
        default=0.0,
        ge=0.0,
        le=50.0,
        allow_inf_nan=False,
        description="How long an idle engine gathers requests before the first step of a batch.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.LOWER, unit="ms"),
    )
    max_batched_tokens: int = Field(
        default=512,
        ge=64,
        le=8192,
        description="Token budget of one step; prompts are prefilled in chunks that fit into it.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.LOWER, unit="tokens"),
    )
    target_itl_ms: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        allow_inf_nan=False,
        description="Inter-token latency the node steers its running batch to by itself; 0 turns the reflex off.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.EITHER, unit="ms"),
    )
    precision: Precision = Field(
        default=Precision.BF16,
        description="Weight format. Prepared beside the running one and swapped in between two steps.",
        json_schema_extra=_knob(ApplyMode.BACKGROUND, SafeDirection.HIGHER, changes_numerics=True),
    )
    kv_precision: KvPrecision = Field(
        default=KvPrecision.MODEL,
        description="KV-cache format: the arithmetic's own, or eight bits. What running requests cached is converted.",
        json_schema_extra=_knob(ApplyMode.BACKGROUND, SafeDirection.HIGHER, changes_numerics=True),
    )
    pruning_threshold: float = Field(
        default=0.0,
        ge=0.0,
        le=0.7,
        allow_inf_nan=False,
        description="Share of the layers' weights to do without, by dropping small activations; 0 is exact.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.LOWER, unit="ratio", changes_numerics=True),
    )
    prefix_cache: bool = Field(
        default=True,
        description="Reuse the KV blocks of shared prompt prefixes.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.EITHER),
    )
    scheduling_policy: SchedulingPolicy = Field(
        default=SchedulingPolicy.FCFS,
        description="Order of waiting requests: arrival, deadline, or longest cached prefix.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.EITHER),
    )
    max_queue: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Waiting requests the node admits; beyond it clients get 429 with Retry-After.",
        json_schema_extra=_knob(ApplyMode.LIVE, SafeDirection.EITHER, unit="requests"),
    )

    def changed(self, other: Self) -> dict[str, tuple[KnobValue, KnobValue]]:
        """Knobs that differ, as name -> (here, there), in declaration order."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def replace(self, **changes: KnobValue) -> Self:
        """A validated copy with some knobs changed. Raises pydantic.ValidationError naming the knob."""
        return type(self).model_validate(self.model_dump() | changes)

    def content_hash(self) -> str:
        """SHA-256 over the canonical JSON, first 16 hex digits: equal settings, equal hash, on every machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def numerics_key(self) -> str:
        """Names the arithmetic that these settings imply; cached prefixes are shared only under an equal key."""
        parts = (str(getattr(self, name)) for name, knob in KNOBS.items() if knob.changes_numerics)
        return "|".join(parts)


@dataclass(frozen=True, slots=True)
class Knob:
    """What is known of one knob, read off `EngineSettings`."""

    name: str
    kind: Literal["int", "float", "bool", "choice"]
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    default: KnobValue
    apply_mode: ApplyMode
    safe_direction: SafeDirection
    changes_numerics: bool
    help: str


def _read_knobs() -> dict[str, Knob]:
    knobs: dict[str, Knob] = {}
    for name, field in EngineSettings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict), f"knob {name} has no metadata"
        annotation = field.annotation
        kind: Literal["int", "float", "bool", "choice"]
        choices: tuple[str, ...] = ()
        if annotation is bool:
            kind = "bool"
        elif annotation is int:
            kind = "int"
        elif annotation is float:
            kind = "float"
        else:
            assert isinstance(annotation, type) and issubclass(annotation, StrEnum)
            kind, choices = "choice", tuple(member.value for member in annotation)
        bounds = {type(m).__name__: m for m in field.metadata}
        default = field.default.value if isinstance(field.default, StrEnum) else field.default
        knobs[name] = Knob(
            name=name,
            kind=kind,
            unit=str(extra["unit"]),
            minimum=getattr(bounds.get("Ge"), "ge", None),
            maximum=getattr(bounds.get("Le"), "le", None),
            choices=choices,
            default=default,
            apply_mode=ApplyMode(str(extra["apply_mode"])),
            safe_direction=SafeDirection(str(extra["safe_direction"])),
            changes_numerics=bool(extra["changes_numerics"]),
            help=field.description or "",
        )
    return knobs


KNOBS: dict[str, Knob] = _read_knobs()
LIVE_KNOBS: tuple[str, ...] = tuple(k.name for k in KNOBS.values() if k.apply_mode is ApplyMode.LIVE)


class KnobBounds(BaseModel):
    """Range of a numeric knob inside which a node's own reflex may move."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float
    max: float


class Envelope(BaseModel):
    """What the control plane asks of a node: a target, and per numeric knob how far the reflex may leave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: EngineSettings
    bounds: dict[str, KnobBounds] = Field(default_factory=dict)
