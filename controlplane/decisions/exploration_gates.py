"""When nothing is tried: a pool that has anything to do, to fear or to spare is no place for it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from controlplane.decisions import explain_burn
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.error_budget import burn_of
from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.explored import Tried
from controlplane.decisions.guardrails import ready_nodes, relaxing_blocks, world_blocks
from controlplane.decisions.situation import Situation, assess


class Closed(StrEnum):
    """Why nothing is tried now."""

    OFF = "off"
    UNDER_WAY = "under_way"
    ENOUGH_THIS_HOUR = "enough_this_hour"
    WORLD = "world"
    ONE_NODE = "one_node"
    ALARM = "alarm"
    BUDGET = "budget"
    MODEL_NOT_READY = "model_not_ready"
    LEARNING = "learning"
    SLO_BROKEN = "slo_broken"
    QUEUE = "queue"
    THREAT = "threat"
    NOT_CALM = "not_calm"
    NOTHING_TO_TRY = "nothing_to_try"
    NOTHING_SAFE = "nothing_safe"


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing is tried, and why, in words with numbers."""

    why: Closed
    detail: str


def open_situation(inputs: DecisionInputs, tried: Sequence[Tried]) -> Situation | Declined:
    """The situation of a pool in which something may be tried, or the first gate that is closed. The cheap ones come first."""
    closed = _by_policy(inputs, tried) or _by_world(inputs) or _by_budget(inputs)
    if closed is not None:
        return closed
    situation = assess(inputs)
    if isinstance(situation, str):
        return Declined(Closed.MODEL_NOT_READY, situation)
    return _by_situation(inputs, situation) or situation


def _by_policy(inputs: DecisionInputs, tried: Sequence[Tried]) -> Declined | None:
    wanted = inputs.policy.exploration
    if wanted.mode is ExplorationMode.OFF:
        return Declined(Closed.OFF, "The policy explores nothing.")
    if any(each.verdict is None for each in tried):
        return Declined(Closed.UNDER_WAY, "Something is being tried already; one at a time.")
    hour_ago = inputs.now - timedelta(hours=1)
    lately = sum(each.at > hour_ago for each in tried)
    if lately >= wanted.per_h:
        return Declined(
            Closed.ENOUGH_THIS_HOUR, f"{lately} tries began within an hour; the policy allows {wanted.per_h}."
        )
    return _after_the_last(inputs, tried)


def _after_the_last(inputs: DecisionInputs, tried: Sequence[Tried]) -> Declined | None:
    """What the next try is held against are windows of the settings in force, so there must be some."""
    ends = [each.until for each in tried if each.until is not None]
    if not ends:
        return None
    since_s, least_s = (inputs.now - max(ends)).total_seconds(), inputs.policy.guardrails.cooldown_relaxing_s
    if since_s >= least_s:
        return None
    return Declined(
        Closed.NOT_CALM, f"The last try ended {since_s:.0f} s ago; the next may begin after {least_s:.0f} s."
    )


def _by_world(inputs: DecisionInputs) -> Declined | None:
    block = world_blocks(inputs)
    if block is not None:
        return Declined(Closed.WORLD, block.constraint.detail)
    if ready_nodes(inputs) < 2:
        return Declined(Closed.ONE_NODE, "One node alone has no peers that it could be held against.")
    if inputs.alarm is not None:
        return Declined(Closed.ALARM, f"Protection is asked for ({inputs.alarm}).")
    return None


def _by_budget(inputs: DecisionInputs) -> Declined | None:
    """A rate of 1 spends the window's whole budget. What is not known is not there to be spent."""
    burn = burn_of(inputs.served, inputs.policy)
    if burn.rate is None:
        return Declined(Closed.BUDGET, explain_burn.said(burn, inputs.policy))
    least = inputs.policy.exploration.min_budget_left
    left = 1 - burn.rate
    if left < least or burn.freezes:
        words = explain_burn.said(burn, inputs.policy)
        return Declined(
            Closed.BUDGET, f"{words} {max(left, 0.0):.0%} of it is left, and {least:.0%} must be to explore."
        )
    return None


def _by_situation(inputs: DecisionInputs, situation: Situation) -> Declined | None:
    least, known = inputs.policy.forecast.min_windows, situation.known_windows
    if known < least:
        return Declined(Closed.LEARNING, f"{known} windows with load are known, and {least} are needed.")
    if situation.slo_broken is not None:
        return Declined(Closed.SLO_BROKEN, f"{situation.slo_broken[0].upper()}{situation.slo_broken[1:]}.")
    if situation.load.waiting > 0:
        return Declined(Closed.QUEUE, f"{situation.load.waiting:g} requests are waiting.")
    # Whatever anybody fears counts, whether or not a forecast has earned to be acted upon.
    breach, forecast = situation.careful.projection.breach_probability, inputs.forecasts.get("offered_rps")
    spike = (None if forecast is None else forecast.spike_probability) or 0.0
    limit = inputs.policy.objective.breach_probability / 3
    if max(breach, spike) > limit:
        return Declined(
            Closed.THREAT,
            f"A breach (probability {breach:.2f}) or a spike ({spike:.2f}) is possible; above {limit:.2f} nothing is tried.",
        )
    missing = relaxing_blocks(inputs, breach, situation.model.step.error_ratio)
    return None if missing is None else Declined(Closed.NOT_CALM, missing.detail)
