"""Whether a push may be applied: the pure rules of generation, epoch, hash, bounds and capabilities.

All or nothing: a push that breaks one rule changes nothing. The rules hold for both ways in, `PUT` and long poll.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from inference_node.contract.messages import NodeCapabilities, RejectCode, SettingsPush
from inference_node.contract.settings import KNOBS, EngineSettings, KnobBounds
from inference_node.errors import NodeError


class PushRejected(NodeError):
    """A push or a manual edit that was refused; nothing was changed."""

    def __init__(self, code: RejectCode, message: str, knob: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.knob = knob


class Verdict(StrEnum):
    """What to do with an acceptable push."""

    APPLY = "apply"
    UNCHANGED = "unchanged"  # in force already
    PREPARING = "preparing"  # on its way already


@dataclass(frozen=True, slots=True)
class Lease:
    """An experiment's end, counted from when its settings came into force: `fallback` holds after `seconds`."""

    seconds: float
    fallback: EngineSettings


@dataclass(frozen=True, slots=True)
class Observed:
    """What this node has in force. With `drifted`, `settings` were edited here and differ from the document of `generation`.

    `lease` runs while the document of `generation` is an experiment; once it has ended, `lapsed` says so and its fallback holds.
    """

    settings: EngineSettings
    generation: int = 0
    epoch: int = 0
    revision: int = 0
    config_hash: str = ""  # of the document of `generation`; empty before the first push
    bounds: dict[str, KnobBounds] = field(default_factory=dict)
    applied_step: int = 0
    drifted: bool = False
    lease: Lease | None = None
    lapsed: bool = False

    @classmethod
    def of_push(cls, push: SettingsPush, step: int) -> Self:
        """What is observed once `push` is in force from `step` on."""
        return cls(
            settings=push.settings,
            generation=push.generation,
            epoch=push.epoch,
            revision=push.revision,
            config_hash=push.config_hash,
            bounds=dict(push.bounds),
            applied_step=step,
            lease=None if push.lease_s is None or push.fallback is None else Lease(push.lease_s, push.fallback),
        )

    def after_lease(self, settings: EngineSettings, step: int) -> Self:
        """What is observed once the lease has ended and `settings` hold from `step` on."""
        return replace(self, settings=settings, applied_step=step, drifted=False, lease=None, lapsed=True)


@dataclass(frozen=True, slots=True)
class Preparing:
    """The push that is being prepared beside the running engine."""

    generation: int
    config_hash: str


def judge(
    push: SettingsPush,
    observed: Observed,
    preparing: Preparing | None,
    *,
    epoch_seen: int,
    capabilities: NodeCapabilities,
    node_id: str | None,
) -> Verdict:
    """What to do with `push`, or PushRejected with the first rule that it breaks.

    epoch_seen is the highest epoch that this node ever accepted: it fences off controllers that were deposed meanwhile.
    node_id is None while the node knows no control plane; then any id is taken.
    """
    if node_id is not None and push.node_id != node_id:
        raise PushRejected(RejectCode.CONFLICT, f"this push is for node {push.node_id}, and this is {node_id}")
    if push.epoch < epoch_seen:
        raise PushRejected(
            RejectCode.STALE_EPOCH,
            f"epoch {push.epoch} is older than {epoch_seen}, which this node has heard from: another controller leads now",
        )
    if push.config_hash != (real := push.settings.content_hash()):
        raise PushRejected(RejectCode.CONFLICT, f"config_hash is {push.config_hash}, but the settings hash to {real}")
    latest = Preparing(observed.generation, observed.config_hash)
    if preparing is not None and preparing.generation > latest.generation:
        latest = preparing
    if push.generation < latest.generation:
        raise PushRejected(
            RejectCode.STALE_GENERATION, f"generation {push.generation} is older than {latest.generation}, known here"
        )
    if push.generation == latest.generation and latest.config_hash:
        if push.config_hash != latest.config_hash:
            raise PushRejected(
                RejectCode.CONFLICT,
                f"generation {push.generation} is known here with hash {latest.config_hash}, not {push.config_hash}",
            )
        if latest is preparing:
            return Verdict.PREPARING
        if observed.lapsed:
            raise PushRejected(
                RejectCode.STALE_GENERATION,
                f"the lease of generation {push.generation} has ended on this node: what was tried needs a new generation",
            )
        if not observed.drifted:
            return Verdict.UNCHANGED
    check_offered(push.settings, capabilities)
    if push.fallback is not None:
        check_offered(push.fallback, capabilities)
    check_bounds(push.bounds, push.settings)
    return Verdict.APPLY


def check_offered(settings: EngineSettings, capabilities: NodeCapabilities) -> None:
    """Refuse what this node does not have. Raises PushRejected naming the knob and what there is."""
    for knob, value, offered in (
        ("precision", settings.precision, capabilities.precisions),
        ("kv_precision", settings.kv_precision, capabilities.kv_precisions),
    ):
        if value not in offered:
            raise PushRejected(
                RejectCode.NOT_SUPPORTED,
                f"{knob} {value.value} is not available on this node; it has {', '.join(offered)}",
                knob,
            )
    for knob, number, limit in (
        ("max_batch_size", settings.max_batch_size, capabilities.max_batch_size),
        ("max_batched_tokens", settings.max_batched_tokens, capabilities.max_batched_tokens),
    ):
        if number > limit:
            raise PushRejected(RejectCode.OUT_OF_BOUNDS, f"{knob} {number} is above this node's limit of {limit}", knob)


def check_bounds(bounds: dict[str, KnobBounds], settings: EngineSettings) -> None:
    """An envelope must name numeric knobs and hold its own target. Raises PushRejected naming the knob."""
    for name, bound in bounds.items():
        knob = KNOBS.get(name)
        if knob is None or knob.kind not in ("int", "float"):
            raise PushRejected(RejectCode.OUT_OF_BOUNDS, f"bounds name {name}, which is no numeric knob", name)
        target = getattr(settings, name)
        if not bound.min <= target <= bound.max:
            raise PushRejected(
                RejectCode.OUT_OF_BOUNDS,
                f"{name} {target} lies outside its own bounds {bound.min} to {bound.max}",
                name,
            )


def rejection_of(errors: Sequence[Any]) -> PushRejected:
    """A malformed document as a rejection that names the knob, from pydantic's account of it (`ValidationError.errors()`)."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    knob = next((part for part in path if part in KNOBS), None)
    where = ".".join(path) or "document"
    if first["type"] == "json_invalid":
        return PushRejected(RejectCode.INVALID, "the body is not valid JSON")
    if first["type"] == "extra_forbidden":
        return PushRejected(RejectCode.NOT_SUPPORTED, f"{where}: this node knows no such knob", path[-1])
    code = RejectCode.OUT_OF_BOUNDS if knob else RejectCode.INVALID
    return PushRejected(code, f"{where}: {first['msg']}", knob)
