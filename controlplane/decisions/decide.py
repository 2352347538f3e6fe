"""The pure whole: inputs in, decision out. No clock, no session, no chance: equal inputs give the equal decision.

Protective moves need any signal (a projected or a present breach, an alarm), relaxing moves need all of them. Among candidates
that meet the objectives the order is: least quality loss, then what carries most (small gains apart), then the smallest change;
when none meets them, the least violation. `DecisionInputs.rules` keeps what was decided under older rules replayable.
"""

from dataclasses import dataclass, replace

from controlplane.decisions import explain, explain_voice
from controlplane.decisions.admission import KNOB, fitting_queue, is_too_long, limited, turns_queue
from controlplane.decisions.canary_limits import would_be_taken_back
from controlplane.decisions.decision import Candidate, Constraint, Decision, DecisionInputs, Predicted
from controlplane.decisions.guardrails import (
    Block,
    barred_settings,
    burn_blocks,
    burn_note,
    change_blocks,
    leads_home,
    proven_settings,
    relaxing_blocks,
    world_blocks,
)
from controlplane.decisions.objective import distance, predict, projection_of, violation
from controlplane.decisions.optimizer import Proposal, autonomy_of, propose
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.quality_budget import is_overspent, may_spend
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.situation import Situation, assess
from controlplane.decisions.voice import Look
from inference_node.contract.settings import EngineSettings

_RECORDED = 8  # candidates kept in the record, beside the settings in force
_MOST = 0.75
# Load over capacity from which settings count as full: queues grow steeply there, and models err by some percent.
# Chosen, not measured.
_FULL = 0.9
# An alarm says that our own figures miss something; they are then taken for so much too low. Chosen, not measured: enough to
# move a knob, and not so much that one alarm turns all of them.
ALARM_HEADROOM = 0.5


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A candidate with the model behind it. `likely_violation` is under the median load, the candidate's under the planned."""

    candidate: Candidate
    model: PoolModel
    likely_violation: float
    autonomy: Autonomy
    distance: float
    # For which load it was weighed.
    rate: float

    def fits(self, inputs: DecisionInputs) -> bool:
        """Whether some limit of the queue lets a full node keep the objective; true where the limit is not turned."""
        return not self.model.sees_prompts_queue or fitting_queue(self.model, inputs.policy, self.rate) >= 1


def decide(inputs: DecisionInputs) -> Decision:
    """What to do with the pool now, and why."""
    situation = assess(inputs)
    block = world_blocks(inputs)
    if isinstance(situation, str):
        if block is None:
            block = Block(Reason.MODEL_NOT_READY, Constraint(Reason.MODEL_NOT_READY.value, "blocks", situation))
        return _hold(inputs, None, block.reason, block.constraint.detail, constraints=(block.constraint,))
    if block is not None:
        text = explain.blocked(block.constraint.detail, situation)
        return _hold(inputs, situation, block.reason, text, constraints=(block.constraint,))
    if is_overspent(inputs):
        return _restore(inputs, situation)
    threatened = situation.projection.breach_probability >= inputs.policy.objective.breach_probability
    if (threatened or situation.slo_broken is not None) and _is_learning(inputs, situation):
        return _hold(inputs, situation, Reason.LEARNING, explain.learning(situation, inputs))
    if situation.slo_broken is not None and not threatened and situation.recovering:
        return _hold(inputs, situation, Reason.RECOVERING, explain.recovering(situation, inputs))
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
        return _hold(inputs, situation, Reason.LEARNING, explain.learning(foreseen, inputs))
    plain = _hold(inputs, situation, Reason.FORECAST_UNPROVEN, explain_voice.unproven(situation, unheard, inputs))
    return explain_voice.as_advice(plain, _protect(inputs, foreseen))


def _restore(inputs: DecisionInputs, situation: Situation) -> Decision:
    """The best settings whose answers the budget allows, whatever the load: what is promised on average holds in a surge, too."""
    weighed = _weigh(inputs, situation, situation.load.planned_rps)
    barred = barred_settings(inputs)
    most = inputs.policy.quality.average_loss_ratio or 0.0
    open_ = [
        w
        for w in weighed[1:]
        if w.candidate.predicted.quality_loss_ratio <= most and w.candidate.settings.content_hash() not in barred
    ]
    text = explain.budget_spent(situation, inputs)
    if not open_:
        return _hold(inputs, situation, Reason.NO_BETTER_CANDIDATE, text)
    chosen = min(open_, key=lambda w: (w.candidate.violation, w.distance, _key(w)))
    shown = _record(inputs, situation, weighed, barred)
    notes = () if chosen.likely_violation == 0 else _shortage(situation, chosen)
    reason, trigger = Reason.QUALITY_BUDGET, Trigger.PROTECTIVE
    return _propose(inputs, situation, chosen, shown, trigger, reason, text, notes)


def _protect(inputs: DecisionInputs, situation: Situation, at_rps: float | None = None) -> Decision:
    """at_rps: for which load, instead of the planned one."""
    weighed = _weigh(inputs, situation, situation.load.planned_rps if at_rps is None else at_rps)
    now = weighed[0]
    barred = barred_settings(inputs)
    better = [w for w in weighed[1:] if _improves(w, now, inputs)]
    if not better and inputs.rules >= 2 and situation.slo_broken is not None and situation.is_queueing:
        # The model holds the settings in force for enough, and a queue says that they are not: what carries more is better.
        better = [w for w in weighed[1:] if _carries_more(w, now, inputs)]
    open_ = [w for w in better if w.candidate.settings.content_hash() not in barred]
    shown = _record(inputs, situation, weighed, barred)
    if not open_:
        if better:
            text = explain.rolled_back_before(situation, inputs)
            return _decided(
                inputs, situation, Outcome.REJECT, Reason.RECENTLY_ROLLED_BACK, text, shown, Trigger.PROTECTIVE
            )
        text = explain.nothing_better(situation, inputs, now.candidate)
        notes = _shortage(situation, now) if now.candidate.violation > 0 else ()
        return _decided(
            inputs,
            situation,
            Outcome.HOLD,
            Reason.NO_BETTER_CANDIDATE,
            text,
            shown,
            Trigger.PROTECTIVE,
            constraints=notes,
        )
    chosen = _choose(open_, now, inputs)
    notes = () if chosen.likely_violation == 0 else _shortage(situation, chosen)
    if chosen.autonomy is not Autonomy.AUTO:
        automatic = [w for w in open_ if w.autonomy is Autonomy.AUTO]
        if automatic:
            # A person's answer may come late: what may be done at once is done, and the rest is said.
            notes = (*notes, explain.also_advised(chosen.candidate, inputs.settings))
            chosen = _choose(automatic, now, inputs)
    reason = Reason.BREACH_PREDICTED if situation.slo_broken is None else Reason.SLO_BROKEN
    if at_rps is not None:
        reason = Reason.ALARM
    text = explain.protective(situation, inputs, chosen.candidate, notes)
    return _propose(inputs, situation, chosen, shown, Trigger.PROTECTIVE, reason, text, notes)


def _relax(inputs: DecisionInputs, situation: Situation) -> Decision:
    text = explain.within_slo(situation, inputs)
    fitted = _fit_queue(inputs, situation, text)
    if fitted is not None:
        return fitted
    if inputs.home is None or _is_home(inputs):
        return _hold(inputs, situation, Reason.WITHIN_SLO, text)
    burning = burn_blocks(inputs)
    if burning is not None:
        words = f"{text} {burning.constraint.detail}"
        return _hold(inputs, situation, burning.reason, words, constraints=(burning.constraint,))
    ask = situation.careful
    missing = relaxing_blocks(inputs, ask.projection.breach_probability, situation.model.step.error_ratio)
    if missing is not None:
        return _hold(inputs, situation, Reason.WITHIN_SLO, text, constraints=(missing,))
    asked = replace(situation, load=ask.load, projection=ask.projection)
    weighed = _weigh(inputs, asked, ask.load.planned_rps * (1 + inputs.policy.guardrails.hysteresis))
    now, barred = weighed[0], barred_settings(inputs)
    fit = [
        w
        for w in weighed[1:]
        if _is_fit(w, now, inputs)
        and w.candidate.settings.content_hash() not in barred
        and leads_home(w.candidate.settings, inputs)
        and _gains(w, now, inputs)
    ]
    if not fit:
        return _hold(inputs, situation, Reason.WITHIN_SLO, text)
    # The quality of answers comes first, then the lightest worst case. Better answers take capacity with them, so no other
    # capacity is given up in the same step.
    least = min(w.candidate.predicted.quality_loss_ratio for w in fit)
    if inputs.rules >= 2 and least < now.candidate.predicted.quality_loss_ratio:
        chosen = min(fit, key=lambda w: (w.candidate.predicted.quality_loss_ratio, w.distance, _key(w)))
    else:
        chosen = min(fit, key=lambda w: (w.candidate.predicted.quality_loss_ratio, w.model.full_itl_s, w.distance))
    shown = _record(inputs, asked, weighed, barred)
    words = explain.relaxing(asked, chosen.candidate, inputs, now.model.full_itl_s, chosen.model.full_itl_s)
    unknown = burn_note(inputs)
    notes = () if unknown is None else (unknown,)
    return _propose(inputs, situation, chosen, shown, Trigger.RELAXING, Reason.RECOVERY, words, notes)


def _is_home(inputs: DecisionInputs) -> bool:
    """The limit of the queue does not count where the controller fits it to the rest."""
    assert inputs.home is not None
    differing = set(inputs.settings.changed(inputs.home))
    return not (differing - {KNOB} if turns_queue(inputs) else differing)


def _fit_queue(inputs: DecisionInputs, situation: Situation, text: str) -> Decision | None:
    """In the calm, so that the next surge finds it done: a shorter limit of the queue where it is far too long, and another batch
    where the full one alone would be too late. Answers stay as good, and as much is carried. None where nothing is amiss."""
    if not turns_queue(inputs) or inputs.alarm is not None or change_blocks(inputs, Trigger.RELAXING) is not None:
        return None
    weighed = _weigh(inputs, situation, situation.load.planned_rps)
    now, barred = weighed[0], barred_settings(inputs)
    if now.fits(inputs) and not is_too_long(now.model, inputs.policy, now.rate):
        return None
    fit = [w for w in weighed[1:] if _is_readier(w, now, inputs) and w.candidate.settings.content_hash() not in barred]
    if not fit:
        return None
    chosen = min(fit, key=lambda w: (not w.fits(inputs), w.distance, _key(w)))
    shown = _record(inputs, situation, weighed, barred)
    words = f"{text} {explain.queue_fitted(inputs, chosen.candidate)}"
    return _propose(inputs, situation, chosen, shown, Trigger.PROTECTIVE, Reason.QUEUE_FITTED, words, ())


def _is_readier(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    """Whether it is ready for a surge, with a shorter queue, and costs nothing until then."""
    changed = set(inputs.settings.changed(candidate.candidate.settings))
    if candidate.autonomy is not Autonomy.AUTO or not candidate.candidate.feasible or KNOB not in changed:
        return False
    if candidate.candidate.settings.max_queue > inputs.settings.max_queue:
        return False
    if changed != {KNOB} and (now.fits(inputs) or not candidate.fits(inputs)):
        return False  # no other knob is turned where the limit alone does it, or where turning it does not do it either
    least = now.candidate.predicted.capacity_rps * (1 - inputs.policy.objective.min_gain)
    return (
        candidate.candidate.settings.numerics_key() == inputs.settings.numerics_key()
        and candidate.candidate.predicted.capacity_rps >= least
    )


def _weigh(inputs: DecisionInputs, situation: Situation, rate: float) -> list[_Weighed]:
    """Each proposal under `rate`, the settings in force first; the others with the limit of the queue that fits them, if the
    controller may turn it, and then the settings in force with it as well."""
    found, turns = [], turns_queue(inputs)
    for proposal in propose(inputs.settings, inputs.policy, inputs.nodes):
        is_new = proposal.settings != inputs.settings
        if is_new and not may_spend(inputs, proposal.quality_loss_ratio):
            continue
        model = situation.model_for(proposal.settings, proposal.step_time_ratio)
        if model is None:
            continue
        fitted = limited(model, inputs.settings, inputs.policy, rate) if turns else model
        if not is_new:
            found.append(_weigh_one(inputs, situation, proposal, model, rate))
        if is_new or fitted is not model:
            found.append(_weigh_one(inputs, situation, replace(proposal, settings=fitted.settings), fitted, rate))
    return found


def _weigh_one(
    inputs: DecisionInputs, situation: Situation, proposal: Proposal, model: PoolModel, rate: float
) -> _Weighed:
    predicted = predict(model, rate, situation.load, proposal.quality_loss_ratio)
    likely = predict(model, situation.load.likely_rps, situation.load, proposal.quality_loss_ratio)
    missed = violation(predicted, inputs.policy)
    return _Weighed(
        candidate=Candidate(proposal.settings, predicted, feasible=missed == 0, violation=missed),
        model=model,
        likely_violation=violation(likely, inputs.policy),
        autonomy=autonomy_of(inputs.settings, proposal.settings, inputs.policy),
        distance=distance(inputs.settings, proposal.settings),
        rate=rate,
    )


def _improves(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    least = inputs.policy.objective.min_gain
    if candidate.autonomy is Autonomy.OFF:
        return False
    if candidate.likely_violation > now.likely_violation:
        return False  # what may come is not answered by breaking what is
    if _is_vain(candidate, now, inputs):
        return False
    return candidate.candidate.violation < now.candidate.violation * (1 - least)


def _carries_more(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    if candidate.autonomy is Autonomy.OFF or candidate.candidate.violation > now.candidate.violation:
        return False
    if _is_vain(candidate, now, inputs):
        return False
    gain = 1 + inputs.policy.objective.min_gain
    return candidate.candidate.predicted.capacity_rps > gain * now.candidate.predicted.capacity_rps


def _is_vain(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    """Whether its canary would only be taken back: it costs a minute, and bars the settings for half an hour."""
    if inputs.rules < 3:
        return False
    return would_be_taken_back(now.candidate.predicted, candidate.candidate.predicted, inputs.policy)


def _choose(weighed: list[_Weighed], now: _Weighed, inputs: DecisionInputs) -> _Weighed:
    """Feasible under the planned load; else under the likely one; else whatever misses least.

    Where none is feasible, the smallest change that brings most of what can be gained at all is better than the largest one.
    """
    feasible = [w for w in weighed if w.candidate.feasible]
    if feasible and inputs.rules >= 2:
        # Those that a surge beyond all plans cannot make late for everybody come first.
        feasible = [w for w in feasible if w.fits(inputs)] or feasible
        # Beyond nine tenths of what the model says, its own error decides whether a queue grows.
        feasible = [w for w in feasible if w.candidate.predicted.utilisation <= _FULL] or feasible
        return _roomiest(feasible, inputs)
    if not feasible:
        fit = [w for w in weighed if w.likely_violation == 0] or weighed
        least = min(w.candidate.violation for w in fit)
        enough = least + (1 - _MOST) * (now.candidate.violation - least)
        feasible = [w for w in fit if w.candidate.violation <= enough]
    return _nearest(feasible, inputs)


def _roomiest(weighed: list[_Weighed], inputs: DecisionInputs) -> _Weighed:
    """Of those that lose least quality the nearest one that carries as much as any of them, but for gains that are no gain.

    A batch is a limit: where the load does not fill it, it costs nothing, and where the model is too hopeful it is what keeps
    requests from queueing. What rows cost in latency stands in whether a candidate is feasible.
    """
    loss = min(w.candidate.predicted.quality_loss_ratio for w in weighed)
    best = [w for w in weighed if w.candidate.predicted.quality_loss_ratio == loss]
    most = max(w.candidate.predicted.capacity_rps for w in best)
    least = most * (1 - inputs.policy.objective.min_gain)
    return _nearest([w for w in best if w.candidate.predicted.capacity_rps >= least], inputs)


def _nearest(weighed: list[_Weighed], inputs: DecisionInputs) -> _Weighed:
    """What was good within the last hour comes before what is nearer: it needs no canary, which is a minute of a surge."""
    known = proven_settings(inputs) if inputs.rules >= 3 else frozenset[str]()

    def order(each: _Weighed) -> tuple[float, bool, float, str]:
        key = _key(each)
        return each.candidate.predicted.quality_loss_ratio, key not in known, each.distance, key

    return min(weighed, key=order)


def _key(weighed: _Weighed) -> str:
    """Breaks the last ties the same way on every machine."""
    return weighed.candidate.settings.content_hash()


def _is_fit(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    """Whether relaxed settings would hold: under the planned load and some more, or, where faster answers are paid for out of a
    budget, under the likely one. What then proves too little is mended by the same budget."""
    most = inputs.policy.quality.average_loss_ratio
    if inputs.rules >= 2 and most is not None and now.candidate.predicted.quality_loss_ratio > most:
        return candidate.likely_violation == 0
    return candidate.candidate.feasible


def _gains(candidate: _Weighed, now: _Weighed, inputs: DecisionInputs) -> bool:
    """Whether relaxing buys something: better answers, or a lighter worst case where the present one would break its objective.

    A limit that would not do harm when it is reached costs nothing, and is what the next surge needs.
    """
    loss, loss_now = candidate.candidate.predicted.quality_loss_ratio, now.candidate.predicted.quality_loss_ratio
    if loss != loss_now:
        return loss < loss_now
    if inputs.rules >= 2 and now.model.full_itl_s <= inputs.policy.slo.itl_p95_s:
        return False
    return candidate.model.full_itl_s <= now.model.full_itl_s * (1 - inputs.policy.objective.min_gain)


def _record(
    inputs: DecisionInputs, situation: Situation, weighed: list[_Weighed], barred: frozenset[str]
) -> tuple[Candidate, ...]:
    """The settings in force and the best others, with verdicts and breach probabilities."""
    others: dict[Predicted, _Weighed] = {}  # of settings that come to the same, the nearest
    for each in sorted(weighed[1:], key=lambda w: (w.candidate.violation, w.distance, _key(w))):
        others.setdefault(each.candidate.predicted, each)
    found = []
    for each in [weighed[0], *list(others.values())[:_RECORDED]]:
        probability = round(projection_of(each.model, situation.load, inputs.policy).breach_probability, 4)
        found.append(
            replace(
                each.candidate,
                predicted=replace(each.candidate.predicted, breach_probability=probability),
                verdict=explain.verdict(each.candidate, inputs, each.autonomy, barred),
            )
        )
    return tuple(found)


def _shortage(situation: Situation, best: _Weighed) -> tuple[Constraint, ...]:
    """Even the best settings do not carry the load: say how many nodes would."""
    return (explain.capacity_insufficient(situation, best.candidate),)


def _propose(
    inputs: DecisionInputs,
    situation: Situation,
    chosen: _Weighed,
    shown: tuple[Candidate, ...],
    trigger: Trigger,
    reason: Reason,
    text: str,
    notes: tuple[Constraint, ...],
) -> Decision:
    """APPLY, ADVISE or hold back, by guardrails and autonomy."""
    settings, level = chosen.candidate.settings, chosen.autonomy
    if all(candidate.settings != settings for candidate in shown):
        shown = (*shown, chosen.candidate)
    block = change_blocks(inputs, trigger)
    if block is not None:
        notes = (*notes, block.constraint)
        words = f"{text} Held back: {block.constraint.detail}"
        return _decided(
            inputs, situation, Outcome.HOLD, block.reason, words, shown, trigger, constraints=notes, mode=level
        )
    if level is Autonomy.AUTO:
        return _decided(inputs, situation, Outcome.APPLY, reason, text, shown, trigger, settings, notes, level)
    note = explain.needs_a_person(inputs.settings, settings, inputs.policy, level)
    words = f"{text} {note.detail}"
    if level.rank >= Autonomy.ADVISE.rank:
        return _decided(
            inputs, situation, Outcome.ADVISE, reason, words, shown, trigger, settings, (*notes, note), level
        )
    return _decided(
        inputs, situation, Outcome.HOLD, Reason.AUTONOMY, words, shown, trigger, constraints=(*notes, note), mode=level
    )


def _hold(
    inputs: DecisionInputs,
    situation: Situation | None,
    reason: Reason,
    text: str,
    constraints: tuple[Constraint, ...] = (),
) -> Decision:
    return _decided(inputs, situation, Outcome.HOLD, reason, text, (), Trigger.TICK, constraints=constraints)


def _decided(
    inputs: DecisionInputs,
    situation: Situation | None,
    outcome: Outcome,
    reason: Reason,
    text: str,
    candidates: tuple[Candidate, ...],
    trigger: Trigger,
    chosen: EngineSettings | None = None,
    constraints: tuple[Constraint, ...] = (),
    mode: Autonomy = Autonomy.AUTO,
) -> Decision:
    projection = None if situation is None else situation.projection
    return Decision(
        at=inputs.now,
        outcome=outcome,
        reason=reason,
        trigger=trigger,
        explanation=text,
        previous=inputs.settings,
        chosen=chosen,
        mode=mode,
        breach_probability=None if projection is None else round(projection.breach_probability, 4),
        forecast={} if situation is None else situation.summary(),
        candidates=candidates,
        constraints=constraints,
        projections=() if projection is None else (projection.ttft_p95_s, projection.itl_p95_s),
    )
