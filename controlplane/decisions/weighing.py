"""Candidates with the model behind each: what they would come to under a load, and what of that is kept with a decision."""

from dataclasses import dataclass, replace

from controlplane.decisions import explain
from controlplane.decisions.admission import fitting_queue, limited, turns_queue
from controlplane.decisions.decision import Candidate, DecisionInputs, Predicted
from controlplane.decisions.objective import distance, predict, projection_of, violation
from controlplane.decisions.optimizer import Proposal, autonomy_of, propose
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.quality_budget import may_spend
from controlplane.decisions.situation import Situation

_RECORDED = 8  # candidates kept in the record, beside the settings in force


@dataclass(frozen=True, slots=True)
class Weighed:
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


def weigh(inputs: DecisionInputs, situation: Situation, rate: float) -> list[Weighed]:
    """Each proposal under `rate`, the settings in force first; the others with the limit of the queue that fits them, if the
    controller may turn it, and then the settings in force with it as well."""
    found, turns = [], turns_queue(inputs)
    for proposal in propose(inputs.settings, inputs.policy, inputs.nodes, inputs.known):
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
) -> Weighed:
    predicted = predict(model, rate, situation.load, proposal.quality_loss_ratio)
    likely = predict(model, situation.load.likely_rps, situation.load, proposal.quality_loss_ratio)
    missed = violation(predicted, inputs.policy)
    return Weighed(
        candidate=Candidate(proposal.settings, predicted, feasible=missed == 0, violation=missed),
        model=model,
        likely_violation=violation(likely, inputs.policy),
        autonomy=autonomy_of(inputs.settings, proposal.settings, inputs.policy),
        distance=distance(inputs.settings, proposal.settings),
        rate=rate,
    )


def record(
    inputs: DecisionInputs, situation: Situation, weighed: list[Weighed], barred: frozenset[str]
) -> tuple[Candidate, ...]:
    """The settings in force and the best others, with verdicts and breach probabilities."""
    others: dict[Predicted, Weighed] = {}  # of settings that come to the same, the nearest
    for each in sorted(weighed[1:], key=lambda w: (w.candidate.violation, w.distance, key_of(w))):
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


def key_of(weighed: Weighed) -> str:
    """Breaks the last ties the same way on every machine."""
    return weighed.candidate.settings.content_hash()
