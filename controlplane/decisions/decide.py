"""The pure whole: inputs in, decision out. No clock, no session, no chance: equal inputs give the equal decision.

Protective moves need any signal (a projected or a present breach, an alarm), relaxing moves need all of them. Among candidates
that meet the objectives the order is: least quality loss, then what carries most (small gains apart), then the smallest change;
when none meets them, the least violation. `DecisionInputs.rules` keeps what was decided under older rules replayable.
"""

from dataclasses import replace

from controlplane.decisions import explain, explain_voice
from controlplane.decisions.certified import loss_of
from controlplane.decisions.choosing import (
    carries_more,
    choose,
    improves,
    known_first,
    lets_more_in,
    refuses_by_itself,
)
from controlplane.decisions.decision import Constraint, Decision, DecisionInputs
from controlplane.decisions.guardrails import (
    Block,
    barred_settings,
    burn_blocks,
    burn_note,
    is_barred,
    leads_home,
    relaxing_blocks,
    world_blocks,
)
from controlplane.decisions.homeward import gains, is_fit, is_home
from controlplane.decisions.outcomes import decided, held, proposed
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.quality_budget import is_overspent
from controlplane.decisions.readiness import fit_queue
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.situation import Situation, assess
from controlplane.decisions.voice import Look
from controlplane.decisions.weighing import Weighed, key_of, record, weigh

# An alarm says that our own figures miss something; they are then taken for so much too low. Chosen, not measured: enough to
# move a knob, and not so much that one alarm turns all of them.
ALARM_HEADROOM = 0.5
# On the way back to better answers, what misses the objectives by so much more than the best is as good: models err by more.
_AS_GOOD = 0.25


def decide(inputs: DecisionInputs) -> Decision:
    """What to do with the pool now, and why."""
    situation = assess(inputs)
    block = world_blocks(inputs)
    if isinstance(situation, str):
        if block is None:
            block = Block(Reason.MODEL_NOT_READY, Constraint(Reason.MODEL_NOT_READY.value, "blocks", situation))
        return held(inputs, None, block.reason, block.constraint.detail, constraints=(block.constraint,))
    if block is not None:
        text = explain.blocked(block.constraint.detail, situation)
        return held(inputs, situation, block.reason, text, constraints=(block.constraint,))
    if is_overspent(inputs):
        return _restore(inputs, situation)
    threatened = situation.projection.breach_probability >= inputs.policy.objective.breach_probability
    if (threatened or situation.slo_broken is not None) and _is_learning(inputs, situation):
        return held(inputs, situation, Reason.LEARNING, explain.learning(situation, inputs))
    if situation.slo_broken is not None and not threatened and situation.recovering:
        return held(inputs, situation, Reason.RECOVERING, explain.recovering(situation, inputs))
    if threatened or situation.slo_broken is not None:
        return _protect(inputs, situation)
    if inputs.alarm is not None and not _is_learning(inputs, situation):
        return _protect(inputs, situation, at_rps=(1 + ALARM_HEADROOM) * situation.load.planned_rps)
    if situation.unheard is not None and situation.alone is not None:
        return _advise(inputs, situation, situation.unheard)
    return _relax(inputs, situation)


def _is_learning(inputs: DecisionInputs, situation: Situation) -> bool:
    """Whether too little is known to act on figures alone: the first windows after a start hold a handful of requests, and
    nodes that still warm up. A queue is no matter of few samples and counts at once."""
    return situation.known_windows < inputs.policy.forecast.min_windows and not situation.is_queueing


def _advise(inputs: DecisionInputs, situation: Situation, unheard: Look) -> Decision:
    """What would be done if the forecast had earned it, as advice."""
    foreseen = replace(situation, load=unheard.load, projection=unheard.projection)
    if _is_learning(inputs, situation):
        return held(inputs, situation, Reason.LEARNING, explain.learning(foreseen, inputs))
    plain = held(inputs, situation, Reason.FORECAST_UNPROVEN, explain_voice.unproven(situation, unheard, inputs))
    return explain_voice.as_advice(plain, _protect(inputs, foreseen))


def _restore(inputs: DecisionInputs, situation: Situation) -> Decision:
    """The best settings whose answers the budget allows, whatever the load: what is promised on average holds in a surge, too.
    Those that are known are in force at once; while a canary of others is looked at, most of the pool would go on spending."""
    weighed = weigh(inputs, situation, situation.load.planned_rps)
    barred = barred_settings(inputs)
    most = inputs.policy.quality.average_loss_ratio or 0.0
    open_ = [
        w for w in weighed[1:] if _is_allowed(w, most, inputs) and not is_barred(w.candidate.settings, barred, inputs)
    ]
    text = explain.budget_spent(situation, inputs)
    if not open_:
        return held(inputs, situation, Reason.NO_BETTER_CANDIDATE, text)
    if inputs.rules >= 5:
        least = min(w.candidate.violation for w in open_)
        near = [w for w in open_ if w.candidate.violation <= least * (1 + _AS_GOOD)]
        open_ = known_first([w for w in near if w.autonomy is Autonomy.AUTO] or near, inputs)
    chosen = min(open_, key=lambda w: (w.candidate.violation, w.distance, key_of(w)))
    shown = record(inputs, situation, weighed, barred)
    notes = () if chosen.likely_violation == 0 else _shortage(situation, chosen)
    reason, trigger = Reason.QUALITY_BUDGET, Trigger.PROTECTIVE
    return proposed(inputs, situation, chosen, shown, trigger, reason, text, notes)


def _is_allowed(candidate: Weighed, most: float, inputs: DecisionInputs) -> bool:
    """A level in force that nobody measured is weighed as if it lost nothing; the books do not take it for that."""
    if inputs.rules >= 5 and loss_of(candidate.candidate.settings, inputs.policy, inputs.nodes) > most:
        return False
    return candidate.candidate.predicted.quality_loss_ratio <= most


def _protect(inputs: DecisionInputs, situation: Situation, at_rps: float | None = None) -> Decision:
    """at_rps: for which load, instead of the planned one."""
    weighed = weigh(inputs, situation, situation.load.planned_rps if at_rps is None else at_rps)
    now = weighed[0]
    barred = barred_settings(inputs)
    better = [w for w in weighed[1:] if improves(w, now, inputs)]
    # With a queue where the model sees room, what has most of it is wanted, known or not.
    is_overrun = not better and inputs.rules >= 2 and situation.slo_broken is not None and situation.is_queueing
    if is_overrun:
        # The model holds the settings in force for enough, and a queue says that they are not: what carries more is better.
        better = [w for w in weighed[1:] if carries_more(w, now, inputs)]
    if not better and refuses_by_itself(inputs):
        better = [w for w in weighed[1:] if lets_more_in(w, inputs)]
    open_ = [w for w in better if not is_barred(w.candidate.settings, barred, inputs)]
    shown = record(inputs, situation, weighed, barred)
    if not open_:
        if better:
            text = explain.rolled_back_before(situation, inputs)
            return decided(
                inputs, situation, Outcome.REJECT, Reason.RECENTLY_ROLLED_BACK, text, shown, Trigger.PROTECTIVE
            )
        text = explain.nothing_better(situation, inputs, now.candidate)
        notes = _shortage(situation, now) if now.candidate.violation > 0 else ()
        return decided(
            inputs,
            situation,
            Outcome.HOLD,
            Reason.NO_BETTER_CANDIDATE,
            text,
            shown,
            Trigger.PROTECTIVE,
            constraints=notes,
        )
    chosen = choose(open_, now, inputs, roomiest=is_overrun)
    notes = () if chosen.likely_violation == 0 else _shortage(situation, chosen)
    if chosen.autonomy is not Autonomy.AUTO:
        automatic = [w for w in open_ if w.autonomy is Autonomy.AUTO]
        if automatic:
            # A person's answer may come late: what may be done at once is done, and the rest is said.
            notes = (*notes, explain.also_advised(chosen.candidate, inputs.settings))
            chosen = choose(automatic, now, inputs, roomiest=is_overrun)
    reason = Reason.BREACH_PREDICTED if situation.slo_broken is None else Reason.SLO_BROKEN
    if at_rps is not None:
        reason = Reason.ALARM
    text = explain.protective(situation, inputs, chosen.candidate, notes)
    return proposed(inputs, situation, chosen, shown, Trigger.PROTECTIVE, reason, text, notes)


def _relax(inputs: DecisionInputs, situation: Situation) -> Decision:
    text = explain.within_slo(situation, inputs)
    fitted = fit_queue(inputs, situation, text)
    if fitted is not None:
        return fitted
    if inputs.home is None or is_home(inputs):
        return held(inputs, situation, Reason.WITHIN_SLO, text)
    burning = burn_blocks(inputs)
    if burning is not None:
        words = f"{text} {burning.constraint.detail}"
        return held(inputs, situation, burning.reason, words, constraints=(burning.constraint,))
    ask = situation.careful
    missing = relaxing_blocks(inputs, ask.projection.breach_probability, situation.model.step.error_ratio)
    if missing is not None:
        return held(inputs, situation, Reason.WITHIN_SLO, text, constraints=(missing,))
    asked = replace(situation, load=ask.load, projection=ask.projection)
    weighed = weigh(inputs, asked, ask.load.planned_rps * (1 + inputs.policy.guardrails.hysteresis))
    now, barred = weighed[0], barred_settings(inputs)
    fit = [
        w
        for w in weighed[1:]
        if is_fit(w, now, inputs)
        and not is_barred(w.candidate.settings, barred, inputs)
        and leads_home(w.candidate.settings, inputs)
        and gains(w, now, inputs)
    ]
    if not fit:
        return held(inputs, situation, Reason.WITHIN_SLO, text)
    # The quality of answers comes first, then the lightest worst case. Better answers take capacity with them, so no other
    # capacity is given up in the same step.
    least = min(w.candidate.predicted.quality_loss_ratio for w in fit)
    if inputs.rules >= 2 and least < now.candidate.predicted.quality_loss_ratio:
        chosen = min(
            fit, key=lambda w: (w.candidate.predicted.quality_loss_ratio, _is_astray(w, inputs), w.distance, key_of(w))
        )
    else:
        chosen = min(fit, key=lambda w: (w.candidate.predicted.quality_loss_ratio, w.model.full_itl_s, w.distance))
    shown = record(inputs, asked, weighed, barred)
    words = explain.relaxing(asked, chosen.candidate, inputs, now.model.full_itl_s, chosen.model.full_itl_s)
    unknown = burn_note(inputs)
    notes = () if unknown is None else (unknown,)
    return proposed(inputs, situation, chosen, shown, Trigger.RELAXING, Reason.RECOVERY, words, notes)


def _is_astray(candidate: Weighed, inputs: DecisionInputs) -> bool:
    """Whether the level is another than people chose: of two that lose nothing, home is nearer."""
    assert inputs.home is not None
    return inputs.rules >= 5 and candidate.candidate.settings.precision is not inputs.home.precision


def _shortage(situation: Situation, best: Weighed) -> tuple[Constraint, ...]:
    """Even the best settings do not carry the load: say how many nodes would."""
    return (explain.capacity_insufficient(situation, best.candidate),)
