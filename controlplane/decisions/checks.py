"""What stands between some settings and being used: objectives, quality, memory, bounds, and who would have to agree. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from controlplane.decisions.decision import DecisionInputs, Predicted
from controlplane.decisions.guardrails import burn_blocks
from controlplane.decisions.optimizer import autonomy_of
from controlplane.decisions.policy import Autonomy
from inference_node.contract.settings import KNOBS, EngineSettings, KnobValue

# Of what is allowed: from here on a limit counts as close.
_CLOSE = 0.8
# control-plane design 2.3: KV feasibility. A cache fuller than this evicts prefixes and preempts.
KV_LIMIT = 0.9


class CheckState(StrEnum):
    """MET; BINDS: met, and close to its limit or the first that would break; BROKEN; UNKNOWN: nobody measured it;
    ASKS: it needs a person, or more than one step, where the controller is concerned."""

    MET = "met"
    BINDS = "binds"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    ASKS = "asks"


@dataclass(frozen=True, slots=True)
class Check:
    """share: how much of what is allowed is used up, 1 at the limit; None where that is no number."""

    name: str
    state: CheckState
    share: float | None
    detail: str


def checks_of(
    inputs: DecisionInputs, settings: EngineSettings, predicted: Predicted, loss: float | None, kv_share: float | None
) -> tuple[Check, ...]:
    """All of them. Those that are close to their limit bind; where none is broken, so does the tightest."""
    found = [*_measured(inputs, predicted, loss, kv_share), *_rules(inputs, settings)]
    is_broken = any(check.state is CheckState.BROKEN for check in found)
    met = [check for check in found if check.state is CheckState.MET and check.share is not None]
    tightest = None if is_broken else max(met, key=lambda check: check.share or 0.0, default=None)
    return tuple(
        replace(check, state=CheckState.BINDS)
        if check.state is CheckState.MET and (check is tightest or (check.share or 0.0) >= _CLOSE)
        else check
        for check in found
    )


def _measured(
    inputs: DecisionInputs, predicted: Predicted, loss: float | None, kv_share: float | None
) -> Iterator[Check]:
    slo, margin = inputs.policy.slo, inputs.policy.objective.slo_margin
    yield _limit(
        "ttft_slo",
        predicted.ttft_p95_s,
        margin * slo.ttft_p95_s,
        f"p95 TTFT within {margin:.0%} of {slo.ttft_p95_s:g} s",
    )
    yield _limit(
        "itl_slo",
        predicted.itl_p95_s,
        margin * slo.itl_p95_s,
        f"p95 ITL within {margin:.0%} of {1000 * slo.itl_p95_s:g} ms",
    )
    yield _limit(
        "capacity",
        predicted.utilisation,
        1.0,
        f"at most the {predicted.capacity_rps:.2f} req/s that the pool can serve",
    )
    most = inputs.policy.quality.max_loss_ratio
    if loss is None:
        yield Check("quality", CheckState.UNKNOWN, None, "Nobody measured what this level costs in quality.")
    else:
        yield _limit("quality", loss, most, f"quality loss of at most {most:.1%}")
    if kv_share is None:
        yield Check("memory", CheckState.UNKNOWN, None, "The nodes do not tell how large their KV cache is.")
    else:
        yield _limit("memory", kv_share, KV_LIMIT, f"at most {KV_LIMIT:.0%} of the KV cache held by running requests")


def _limit(name: str, value: float, limit: float, words: str) -> Check:
    share = value / limit if limit > 0 else float(value > 0) * 1e6
    state = CheckState.MET if share <= 1 else CheckState.BROKEN
    return Check(name, state, min(share, 1e6), words)


def _rules(inputs: DecisionInputs, settings: EngineSettings) -> Iterator[Check]:
    """What policy and nodes say of the knobs themselves."""
    changed = inputs.settings.changed(settings)
    impossible = list(_not_offered(inputs, settings))
    if impossible:
        yield Check("nodes", CheckState.BROKEN, None, "; ".join(impossible) + ".")
    outside = [
        f"{knob} {_text(value)} is outside {bounds.min:g} to {bounds.max:g}"
        for knob, bounds in inputs.policy.guardrails.bounds.items()
        if isinstance(value := getattr(settings, knob), int | float) and not bounds.min <= value <= bounds.max
    ]
    if outside:
        yield Check(
            "bounds", CheckState.ASKS, None, f"By the policy's bounds the controller stays away: {'; '.join(outside)}."
        )
    ratio = inputs.policy.guardrails.max_change_ratio
    far = [
        f"{knob} {_text(here)} to {_text(there)}"
        for knob, (here, there) in changed.items()
        if KNOBS[knob].minimum
        and not isinstance(here, str)
        and not float(here) / ratio <= float(there) <= float(here) * ratio
    ]
    if far:
        yield Check(
            "step_size",
            CheckState.ASKS,
            None,
            f"One change of the controller moves a knob by a factor of {ratio:g} at most: {'; '.join(far)}.",
        )
    burning = burn_blocks(inputs)
    if changed and burning is not None:
        yield Check("error_budget", CheckState.ASKS, None, burning.constraint.detail)
    level = autonomy_of(inputs.settings, settings, inputs.policy)
    guarded = [knob for knob in changed if inputs.policy.autonomy_of(knob) is level]
    if level is not Autonomy.AUTO:
        yield Check("autonomy", CheckState.ASKS, None, f"By the policy a person decides on {' and '.join(guarded)}.")


def _not_offered(inputs: DecisionInputs, settings: EngineSettings) -> Iterator[str]:
    for node in inputs.nodes:
        has = node.capabilities
        if has is None:
            continue
        if settings.precision not in has.precisions:
            yield f"{node.name} has no {settings.precision.value} weights"
        if settings.kv_precision not in has.kv_precisions:
            yield f"{node.name} has no {settings.kv_precision.value} KV cache"
        if settings.max_batch_size > has.max_batch_size:
            yield f"{node.name} takes a batch of {has.max_batch_size} at most"
        if settings.max_batched_tokens > has.max_batched_tokens:
            yield f"{node.name} takes {has.max_batched_tokens} tokens a step at most"


def _text(value: KnobValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
