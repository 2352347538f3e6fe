"""Proposes settings: a small grid around those in force, over the knobs that the policy lets the controller look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from controlplane.decisions.certified import certified_variants
from controlplane.decisions.decision import NodeFacts
from controlplane.decisions.policy import Autonomy, CertifiedVariant, Policy
from inference_node.contract.quality import is_full_precision
from inference_node.contract.settings import KNOBS, EngineSettings, KnobValue

# Factors tried per numeric knob; what the policy's trust region does not allow is left out.
_BATCH = (0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_TOKENS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings to weigh, with what is known of their quality and speed beyond the step-time table."""

    settings: EngineSettings
    quality_loss_ratio: float
    step_time_ratio: float


def propose(
    current: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...], known: Sequence[EngineSettings] = ()
) -> list[Proposal]:
    """The settings in force first, then every combination inside bounds, trust region and capabilities. No duplicates.

    known: settings that may lie beside the grid, and are weighed as well where the same limits allow them.
    """
    certified = certified_variants(current, policy, nodes)
    by_batch = {current.max_batch_size: certified}
    loss, speed = _now(current, certified)
    found = {current: Proposal(current, loss, speed)}
    for batch, tokens, wait in product(
        _scaled("max_batch_size", current.max_batch_size, _BATCH, policy, nodes),
        _scaled("max_batched_tokens", current.max_batched_tokens, _TOKENS, policy, nodes),
        _waits(current, policy),
    ):
        live = current.replace(max_batch_size=batch, max_batched_tokens=tokens, batch_wait_ms=wait)
        if batch not in by_batch:  # what pruning gains depends on the rows in a step
            by_batch[batch] = certified_variants(live, policy, nodes)
        certified = by_batch[batch]
        for variant in _variants(current, policy, nodes, certified):
            settings, loss, speed = _with(live, variant, current, certified)
            found.setdefault(settings, Proposal(settings, loss, speed))
    for settings in known:
        if settings not in found and (proposal := _beside(settings, current, policy, nodes)) is not None:
            found[settings] = proposal
    return list(found.values())


def _beside(
    settings: EngineSettings, current: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...]
) -> Proposal | None:
    """Settings that no factor leads to; None where they are out of bounds, or change what is not turned."""
    for knob in ("max_batch_size", "max_batched_tokens"):
        value, now = getattr(settings, knob), getattr(current, knob)
        low, high = _range(knob, float(now), policy, nodes)
        if value != now and (policy.autonomy_of(knob) is Autonomy.OFF or not low <= value <= high):
            return None
    if settings.batch_wait_ms not in _waits(current, policy):
        return None
    live = current.replace(
        max_batch_size=settings.max_batch_size,
        max_batched_tokens=settings.max_batched_tokens,
        batch_wait_ms=settings.batch_wait_ms,
    )
    certified = certified_variants(live, policy, nodes)
    for variant in _variants(current, policy, nodes, certified):
        found, loss, speed = _with(live, variant, current, certified)
        if found == settings:
            return Proposal(settings, loss, speed)
    return None


@dataclass(frozen=True, slots=True)
class Level:
    """What is known of the precision, KV format and pruning of some settings, as candidates are weighed with it.

    quality_loss_ratio: None where nobody measured it. step_time_ratio: against the step times in force; None where a pruned level
    was not timed.
    """

    quality_loss_ratio: float | None
    step_time_ratio: float | None


def level_of(settings: EngineSettings, current: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...]) -> Level:
    """The same that `propose` attaches to settings that it proposes, and what is known of those that it never would."""
    live = current.replace(
        max_batch_size=settings.max_batch_size,
        max_batched_tokens=settings.max_batched_tokens,
        batch_wait_ms=settings.batch_wait_ms,
        kv_precision=settings.kv_precision.value,
    )
    certified = certified_variants(live, policy, nodes)
    variant = _find(settings, certified)
    same = (settings.precision, settings.pruning_threshold) == (current.precision, current.pruning_threshold)
    if variant is not None:
        _, loss, ratio = _with(live, None if same else variant, current, certified)
        timed = variant.step_time_ratio is not None or settings.pruning_threshold == 0 or same
        return Level(loss, ratio if timed else None)
    exact = is_full_precision(settings)
    timed = same or settings.pruning_threshold == 0
    return Level(0.0 if exact else None, 1.0 if timed else None)


def autonomy_of(current: EngineSettings, proposed: EngineSettings, policy: Policy) -> Autonomy:
    """How far the controller may go with this change: as far as with its most guarded knob."""
    changed = current.changed(proposed)
    return min((policy.autonomy_of(knob) for knob in changed), key=lambda level: level.rank, default=Autonomy.AUTO)


def _scaled(
    knob: str, value: int, factors: tuple[float, ...], policy: Policy, nodes: tuple[NodeFacts, ...]
) -> list[int]:
    if policy.autonomy_of(knob) is Autonomy.OFF:
        return [value]
    low, high = _range(knob, float(value), policy, nodes)
    tried = {value} | {round(value * factor) for factor in factors}
    # From small values, factors leave holes: 1, 2, 3, 4 are all worth a look.
    tried |= {value + step for step in (-2, -1, 1, 2)} if knob == "max_batch_size" else set()
    return sorted(v for v in tried if v == value or low <= v <= high)


def _range(knob: str, value: float, policy: Policy, nodes: tuple[NodeFacts, ...]) -> tuple[float, float]:
    """Where policy bounds, the product's bounds, the trust region and each node's capabilities overlap."""
    ratio = policy.guardrails.max_change_ratio
    low, high = value / ratio, value * ratio
    bounds = policy.guardrails.bounds.get(knob)
    if bounds is not None:
        low, high = max(low, bounds.min), min(high, bounds.max)
    minimum, maximum = KNOBS[knob].minimum, KNOBS[knob].maximum
    low = low if minimum is None else max(low, minimum)
    high = high if maximum is None else min(high, maximum)
    for node in nodes:
        if node.capabilities is not None:
            high = min(high, float(getattr(node.capabilities, knob)))
    return low, high


def _waits(current: EngineSettings, policy: Policy) -> list[float]:
    """The batching window is only ever shortened: it buys throughput that larger batches give without the wait."""
    if policy.autonomy_of("batch_wait_ms") is Autonomy.OFF or current.batch_wait_ms == 0:
        return [current.batch_wait_ms]
    bounds = policy.guardrails.bounds.get("batch_wait_ms")
    least = 0.0 if bounds is None else bounds.min
    return (
        sorted({current.batch_wait_ms, max(least, 0.0)}) if least <= current.batch_wait_ms else [current.batch_wait_ms]
    )


def _variants(
    current: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...], certified: tuple[CertifiedVariant, ...]
) -> Iterator[CertifiedVariant | None]:
    """None (what is in force), then each certified variant that all nodes have and the quality budget allows."""
    yield None
    bounds = policy.guardrails.bounds.get("pruning_threshold")
    for variant in certified:
        if variant.quality_loss_ratio > policy.quality.max_loss_ratio:
            continue
        if variant.precision is not current.precision and policy.autonomy_of("precision") is Autonomy.OFF:
            continue
        if variant.pruning_threshold != current.pruning_threshold:
            if policy.autonomy_of("pruning_threshold") is Autonomy.OFF or variant.step_time_ratio is None:
                continue
            if bounds is not None and not bounds.min <= variant.pruning_threshold <= bounds.max:
                continue
        if all(n.capabilities is not None and variant.precision in n.capabilities.precisions for n in nodes):
            yield variant


def _with(
    settings: EngineSettings,
    variant: CertifiedVariant | None,
    current: EngineSettings,
    certified: tuple[CertifiedVariant, ...],
) -> tuple[EngineSettings, float, float]:
    if variant is None:
        return settings, *_now(current, certified)
    changes: dict[str, KnobValue] = {
        "precision": variant.precision.value,
        "pruning_threshold": variant.pruning_threshold,
    }
    ratio = variant.step_time_ratio or 1.0
    if variant.precision is current.precision:
        # The step times were measured with the pruning in force, so only the difference to it counts.
        now = _find(current, certified)
        ratio /= (now.step_time_ratio if now is not None else None) or 1.0
    return settings.replace(**changes), variant.quality_loss_ratio, ratio


def _now(current: EngineSettings, certified: tuple[CertifiedVariant, ...]) -> tuple[float, float]:
    """Quality loss of what is in force, where it is certified; its speed is in the measured step times already, hence 1."""
    variant = _find(current, certified)
    return (0.0 if variant is None else variant.quality_loss_ratio), 1.0


def _find(settings: EngineSettings, certified: tuple[CertifiedVariant, ...]) -> CertifiedVariant | None:
    wanted = (settings.precision, settings.pruning_threshold)
    return next((v for v in certified if (v.precision, v.pruning_threshold) == wanted), None)
