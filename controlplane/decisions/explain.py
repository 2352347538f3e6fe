"""Decisions in plain words, with numbers and units. Everything a reader of the web app learns of the why is written here."""

import math

from controlplane.decisions.decision import Candidate, Constraint, DecisionInputs
from controlplane.decisions.guardrails import is_barred
from controlplane.decisions.policy import Autonomy, Policy
from controlplane.decisions.situation import Situation
from inference_node.contract.settings import KNOBS, EngineSettings, KnobValue

# The constraint that says that settings alone do not carry the load.
CAPACITY_INSUFFICIENT = "capacity_insufficient"


def blocked(detail: str, situation: Situation) -> str:
    """A hold that does not depend on the load, with what the load looks like all the same."""
    return f"{detail} {_outlook(situation)}"


def within_slo(situation: Situation, inputs: DecisionInputs) -> str:
    seen, slo = inputs.observation, inputs.policy.slo
    ttft = "no request got its first token in this window"
    if seen is not None and seen.ttft_p95_s is not None:
        ttft = f"p95 TTFT is {seen.ttft_p95_s:.2f} s (objective {slo.ttft_p95_s:g} s)"
    itl = ""
    if seen is not None and seen.itl_p95_s is not None:
        itl = f" and p95 ITL {1000 * seen.itl_p95_s:.0f} ms (objective {1000 * slo.itl_p95_s:.0f} ms)"
    return f"Within the objectives: {ttft}{itl}. {_outlook(situation)}"


def recovering(situation: Situation, inputs: DecisionInputs) -> str:
    return (
        f"{_threat(situation, inputs)} The queue is getting shorter and the settings in force are expected to work it off, "
        "so nothing more is changed."
    )


def learning(situation: Situation, inputs: DecisionInputs) -> str:
    needed = inputs.policy.forecast.min_windows
    return (
        f"{_threat(situation, inputs)} That rests on {situation.known_windows} windows with load; without a queue, {needed} are "
        "needed before anything is changed on such figures."
    )


def protective(situation: Situation, inputs: DecisionInputs, chosen: Candidate, notes: tuple[Constraint, ...]) -> str:
    """Why something is changed against a threat, and what the change is expected to bring."""
    said = " ".join(note.detail for note in notes)
    after = (
        f"{changes(inputs.settings, chosen.settings)} serves {chosen.predicted.capacity_rps:.1f} req/s: "
        f"at {situation.load.planned_rps:.1f} req/s p95 TTFT {_seconds(chosen.predicted.ttft_p95_s)}, "
        f"p95 ITL {_seconds(chosen.predicted.itl_p95_s)}."
    )
    return " ".join(part for part in (_threat(situation, inputs), after, said) if part)


def relaxing(
    situation: Situation, chosen: Candidate, inputs: DecisionInputs, worst_now_s: float, worst_then_s: float
) -> str:
    calm_s = inputs.policy.guardrails.cooldown_relaxing_s
    return (
        f"Calm for {calm_s:.0f} s; the load to plan for is {situation.load.planned_rps:.1f} req/s. "
        f"{changes(inputs.settings, chosen.settings)} still serves {chosen.predicted.capacity_rps:.1f} req/s within the "
        f"objectives and lowers p95 ITL at full load from {_seconds(worst_now_s)} to {_seconds(worst_then_s)}. "
        "It is a step back towards the settings that people chose."
    )


def queue_fitted(inputs: DecisionInputs, chosen: Candidate) -> str:
    objective = _seconds(inputs.policy.slo.ttft_p95_s)
    return (
        f"{changes(inputs.settings, chosen.settings)}: in a surge, whoever waits behind more than that at a node gets the first "
        f"token later than {objective}, and so does everybody after them; refused at once (429), they leave the others in time."
    )


def budget_spent(situation: Situation, inputs: DecisionInputs) -> str:
    spent, most = inputs.quality_spent_ratio or 0.0, inputs.policy.quality.average_loss_ratio or 0.0
    return (
        f"Answers lost {spent:.2%} of their quality on average, and the policy allows {most:.2%}: better ones come back, "
        f"although {situation.load.likely_rps:.1f} req/s are offered."
    )


def nothing_better(situation: Situation, inputs: DecisionInputs, now: Candidate) -> str:
    threat = _threat(situation, inputs)
    if now.feasible:
        return f"{threat} The performance model expects the settings in force to hold, so nothing is changed on this evidence."
    return (
        f"{threat} None of the settings within the policy's bounds is predicted to do better by {_gain(inputs.policy)}."
    )


def rolled_back_before(situation: Situation, inputs: DecisionInputs) -> str:
    hold_min = inputs.policy.guardrails.rolled_back_hold_s / 60
    return (
        f"{_threat(situation, inputs)} The settings that would help were rolled back lately and are not tried again within "
        f"{hold_min:.0f} min."
    )


def verdict(candidate: Candidate, inputs: DecisionInputs, autonomy: Autonomy, barred: frozenset[str]) -> str:
    """One short line on a candidate."""
    slo, margin = inputs.policy.slo, inputs.policy.objective.slo_margin
    predicted, words = candidate.predicted, []
    if predicted.ttft_p95_s > margin * slo.ttft_p95_s:
        words.append(f"p95 TTFT {_seconds(predicted.ttft_p95_s)} is over {_seconds(margin * slo.ttft_p95_s)}")
    if predicted.itl_p95_s > margin * slo.itl_p95_s:
        words.append(f"p95 ITL {_seconds(predicted.itl_p95_s)} is over {_seconds(margin * slo.itl_p95_s)}")
    if predicted.refused_ratio:
        words.append(f"{predicted.refused_ratio:.0%} would be refused")
    if not words:
        words.append("meets the objectives")
    if candidate.settings == inputs.settings:
        words.append("in force")
    elif is_barred(candidate.settings, barred, inputs):
        words.append("rolled back lately")
    elif autonomy is not Autonomy.AUTO:
        words.append(f"autonomy {autonomy.value}")
    return "; ".join(words)


def capacity_insufficient(situation: Situation, best: Candidate) -> Constraint:
    """Which number of nodes would carry the planned load at four fifths of their capacity."""
    nodes = situation.model.nodes
    needed = max(nodes + 1, math.ceil(situation.load.planned_rps / (0.8 * best.predicted.capacity_rps / nodes)))
    return Constraint(
        CAPACITY_INSUFFICIENT,
        "notes",
        f"Settings alone may not carry the load: {situation.load.planned_rps:.1f} req/s is planned for, the best settings serve "
        f"{best.predicted.capacity_rps:.1f} req/s on {nodes} nodes; {needed} nodes would.",
    )


def also_advised(candidate: Candidate, current: EngineSettings) -> Constraint:
    return Constraint(
        "better_with_approval",
        "advises",
        f"{changes(current, candidate.settings)} would serve {candidate.predicted.capacity_rps:.1f} req/s, "
        "but needs a person's approval.",
    )


def needs_a_person(current: EngineSettings, chosen: EngineSettings, policy: Policy, level: Autonomy) -> Constraint:
    guarded = [knob for knob in current.changed(chosen) if policy.autonomy_of(knob) is level]
    verb = {Autonomy.OBSERVE: "only observed", Autonomy.ADVISE: "advised"}.get(level, "put up for approval")
    return Constraint(
        "autonomy",
        "advises",
        f"By the policy, changes of {' and '.join(guarded)} are {verb}, not made by the controller.",
    )


def _threat(situation: Situation, inputs: DecisionInputs) -> str:
    projection, load = situation.projection, situation.load
    parts = []
    if inputs.alarm is not None:
        parts.append(f"Protection is asked for: {inputs.alarm}.")
    if situation.slo_broken is not None:
        parts.append(f"{situation.slo_broken[0].upper()}{situation.slo_broken[1:]}.")
    parts.append(
        f"Offered load is forecast at {load.likely_rps:.1f} req/s and may reach {load.planned_rps:.1f} req/s within "
        f"{load.horizon_s:.0f} s ({load.forecast.model.replace('_', ' ')}); with {_named(inputs.settings)} the pool serves "
        f"{situation.model.capacity_rps:.1f} req/s{_waiting(load.waiting)}"
    )
    if projection.breach_in_s is None:
        return f"{' '.join(parts)}."
    which = "p95 TTFT" if projection.ttft_breach_probability >= projection.itl_breach_probability else "p95 ITL"
    objective = inputs.policy.slo.ttft_p95_s if which == "p95 TTFT" else inputs.policy.slo.itl_p95_s
    return (
        f"{' '.join(parts)}, so {which} would pass {_seconds(objective)} in about {projection.breach_in_s:.0f} s "
        f"(probability {projection.breach_probability:.2f})."
    )


def _outlook(situation: Situation) -> str:
    return (
        f"Load is forecast at {situation.load.likely_rps:.1f} req/s of {situation.model.capacity_rps:.1f} req/s capacity; "
        f"breach within {situation.load.horizon_s:.0f} s has probability {situation.projection.breach_probability:.2f}."
    )


def changes(current: EngineSettings, other: EngineSettings) -> str:
    """Knob by knob, from what to what."""
    return ", ".join(
        f"{knob} {_value(knob, here)} -> {_value(knob, there)}"
        for knob, (here, there) in current.changed(other).items()
    )


def _named(settings: EngineSettings) -> str:
    return f"max_batch_size {settings.max_batch_size}"


def _value(knob: str, value: KnobValue) -> str:
    unit = KNOBS[knob].unit
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit}" if unit == "ms" else shown


def _waiting(waiting: float) -> str:
    return f" and {waiting:.0f} requests wait" if waiting >= 1 else ""


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def _gain(policy: Policy) -> str:
    return f"{policy.objective.min_gain:.0%}"
