"""On the way back to the settings that people chose: whether it has been gone, what would hold there, and what is won by it."""

from controlplane.decisions.admission import KNOB, turns_queue
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.weighing import Weighed


def is_home(inputs: DecisionInputs) -> bool:
    """The limit of the queue does not count where the controller fits it to the rest."""
    assert inputs.home is not None
    differing = set(inputs.settings.changed(inputs.home))
    return not (differing - {KNOB} if turns_queue(inputs) else differing)


def is_fit(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
    """Whether relaxed settings would hold: under the planned load and some more, or, where faster answers are paid for out of a
    budget, under the likely one. What then proves too little is mended by the same budget."""
    most = inputs.policy.quality.average_loss_ratio
    if inputs.rules >= 2 and most is not None and now.candidate.predicted.quality_loss_ratio > most:
        return candidate.likely_violation == 0
    return candidate.candidate.feasible


def gains(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
    """Whether relaxing buys something: better answers, or a lighter worst case where the present one would break its objective.

    A limit that would not do harm when it is reached costs nothing, and is what the next surge needs.
    """
    loss, loss_now = candidate.candidate.predicted.quality_loss_ratio, now.candidate.predicted.quality_loss_ratio
    if loss != loss_now:
        return loss < loss_now
    if inputs.rules >= 2 and now.model.full_itl_s <= inputs.policy.slo.itl_p95_s:
        return False
    return candidate.model.full_itl_s <= now.model.full_itl_s * (1 - inputs.policy.objective.min_gain)
