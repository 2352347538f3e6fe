"""Against a threat: which candidates are better than the settings in force, and which of those is taken."""

from controlplane.decisions.admission import KNOB, turns_queue
from controlplane.decisions.canary_limits import would_be_taken_back
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.guardrails import proven_settings
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.weighing import Weighed, key_of

_MOST = 0.75
# Load over capacity from which settings count as full: queues grow steeply there, and models err by some percent.
# Chosen, not measured.
_FULL = 0.9


def improves(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
    least = inputs.policy.objective.min_gain
    if candidate.autonomy is Autonomy.OFF:
        return False
    if candidate.likely_violation > now.likely_violation:
        return False  # what may come is not answered by breaking what is
    if _is_vain(candidate, now, inputs):
        return False
    return candidate.candidate.violation < now.candidate.violation * (1 - least)


def carries_more(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
    if candidate.autonomy is Autonomy.OFF or candidate.candidate.violation > now.candidate.violation:
        return False
    if _is_vain(candidate, now, inputs):
        return False
    gain = 1 + inputs.policy.objective.min_gain
    return candidate.candidate.predicted.capacity_rps > gain * now.candidate.predicted.capacity_rps


def refuses_by_itself(inputs: DecisionInputs) -> bool:
    """Whether the limit of the queue, which is the controller's, turns requests away that no queue stands before."""
    seen = inputs.observation
    return turns_queue(inputs) and seen is not None and bool(seen.rejected)


def lets_more_in(candidate: Weighed, inputs: DecisionInputs) -> bool:
    """The settings in force with the longer limit that fits them: the model sees no overload where bursts are refused."""
    changed = inputs.settings.changed(candidate.candidate.settings)
    longer = candidate.candidate.settings.max_queue > inputs.settings.max_queue
    return set(changed) == {KNOB} and longer and candidate.autonomy is Autonomy.AUTO


def _is_vain(candidate: Weighed, now: Weighed, inputs: DecisionInputs) -> bool:
    """Whether its canary would only be taken back: it costs a minute, and bars the settings for half an hour."""
    if inputs.rules < 3:
        return False
    return would_be_taken_back(now.candidate.predicted, candidate.candidate.predicted, inputs.policy)


def choose(weighed: list[Weighed], now: Weighed, inputs: DecisionInputs, *, roomiest: bool = False) -> Weighed:
    """Feasible under the planned load; else under the likely one; else whatever misses least. roomiest: what is known has no
    advantage over what has more room.

    Where none is feasible, the smallest change that brings most of what can be gained at all is better than the largest one.
    """
    feasible = [w for w in weighed if w.candidate.feasible]
    if feasible and inputs.rules >= 2:
        # Those that a surge beyond all plans cannot make late for everybody come first.
        feasible = [w for w in feasible if w.fits(inputs)] or feasible
        # Beyond nine tenths of what the model says, its own error decides whether a queue grows.
        feasible = [w for w in feasible if w.candidate.predicted.utilisation <= _FULL] or feasible
        return _roomiest(feasible, inputs, known_too=not roomiest)
    if not feasible:
        fit = [w for w in weighed if w.likely_violation == 0] or weighed
        least = min(w.candidate.violation for w in fit)
        enough = least + (1 - _MOST) * (now.candidate.violation - least)
        feasible = [w for w in fit if w.candidate.violation <= enough]
    return _nearest(feasible, inputs)


def _roomiest(weighed: list[Weighed], inputs: DecisionInputs, *, known_too: bool) -> Weighed:
    """Of those that lose least quality, and of these those that are known, the nearest one that carries as much as any of them,
    but for gains that are no gain.

    A batch is a limit: where the load does not fill it, it costs nothing, and where the model is too hopeful it is what keeps
    requests from queueing. What rows cost in latency stands in whether a candidate is feasible.
    """
    loss = min(w.candidate.predicted.quality_loss_ratio for w in weighed)
    best = [w for w in weighed if w.candidate.predicted.quality_loss_ratio == loss]
    best = known_first(best, inputs) if known_too else best
    most = max(w.candidate.predicted.capacity_rps for w in best)
    least = most * (1 - inputs.policy.objective.min_gain)
    return _nearest([w for w in best if w.candidate.predicted.capacity_rps >= least], inputs)


def known_first(weighed: list[Weighed], inputs: DecisionInputs) -> list[Weighed]:
    """Those that are known, if there are any: they go to all nodes at once, where a canary leaves most of the pool as it is for
    some windows of the surge. More room can be made afterwards."""
    if inputs.rules < 5 or inputs.policy.rollout.known_for_s == 0:
        return weighed
    known = proven_settings(inputs)
    return [w for w in weighed if key_of(w) in known] or weighed


def _nearest(weighed: list[Weighed], inputs: DecisionInputs) -> Weighed:
    """What was good within the last hour comes before what is nearer: it needs no canary, which is a minute of a surge."""
    known = proven_settings(inputs) if inputs.rules >= 3 else frozenset[str]()

    def order(each: Weighed) -> tuple[float, bool, float, str]:
        key = key_of(each)
        return each.candidate.predicted.quality_loss_ratio, key not in known, each.distance, key

    return min(weighed, key=order)
