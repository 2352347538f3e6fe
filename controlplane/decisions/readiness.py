"""In the calm: a limit of the queue, and a batch, that the next surge cannot make late for everybody."""

from controlplane.decisions import explain
from controlplane.decisions.admission import KNOB, is_too_long, turns_queue
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.guardrails import barred_settings, change_blocks, is_barred
from controlplane.decisions.outcomes import proposed
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.reasons import Reason, Trigger
from controlplane.decisions.situation import Situation
from controlplane.decisions.weighing import Weighed, key_of, record, weigh


def fit_queue(inputs: DecisionInputs, situation: Situation, text: str) -> Decision | None:
    """In the calm, so that the next surge finds it done: a shorter limit of the queue where it is far too long, and another batch
    where the full one alone would be too late. Answers stay as good, and as much is carried. None where nothing is amiss."""
    if not turns_queue(inputs) or inputs.alarm is not None or change_blocks(inputs, Trigger.RELAXING) is not None:
        return None
    weighed = weigh(inputs, situation, situation.load.planned_rps)
    now, barred = weighed[0], barred_settings(inputs)
    if now.fits(inputs) and not is_too_long(now.model, inputs.policy, now.rate):
        return None
    fit = [
        w for w in weighed[1:] if _is_readier(w, now, inputs) and not is_barred(w.candidate.settings, barred, inputs)
    ]
    if not fit:
        return None
    chosen = min(fit, key=lambda w: (not w.fits(inputs), w.distance, key_of(w)))
    shown = record(inputs, situation, weighed, barred)
    words = f"{text} {explain.queue_fitted(inputs, chosen.candidate)}"
    return proposed(inputs, situation, chosen, shown, Trigger.PROTECTIVE, Reason.QUEUE_FITTED, words, ())


def _is_readier(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
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
