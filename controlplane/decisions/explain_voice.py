"""A forecast that was not followed: why, in plain words, and what it is good for all the same."""

from dataclasses import replace

from controlplane.decisions import explain
from controlplane.decisions.decision import Constraint, Decision, DecisionInputs
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.situation import Situation
from controlplane.decisions.voice import Look
from controlplane.forecasting.merit import Merit, said


def unproven(situation: Situation, unheard: Look, inputs: DecisionInputs) -> str:
    load, newest = unheard.load, situation.load
    model = load.forecast.model.replace("_", " ")
    return (
        f"Only the forecast sees a threat: the load may reach {load.planned_rps:.1f} req/s within {load.horizon_s:.0f} s "
        f"({model}), and a breach has probability {unheard.projection.breach_probability:.2f}; by the newest load it is "
        f"{newest.planned_rps:.1f} req/s and {situation.projection.breach_probability:.2f}. Forecasts of this pool have not "
        f"earned the right to act. {said(inputs.merit or Merit())}"
    )


def as_advice(plain: Decision, wanted: Decision) -> Decision:
    """What `wanted` would change is told to people and never made; where it would change nothing, it is a hold as `plain` is.

    The record keeps the figures of the voice that is gone by: what scales replicas reads them, and is not to follow a forecast
    that settings may not follow.
    """
    reason = Reason.FORECAST_UNPROVEN
    note = Constraint(reason.value, "advises", plain.explanation)
    if wanted.chosen is None:
        held = replace(note, effect="blocks")
        return replace(plain, trigger=Trigger.PROTECTIVE, constraints=(held,), candidates=wanted.candidates)
    words = f"{plain.explanation} Advised: {explain.changes(wanted.previous, wanted.chosen)}."
    return replace(
        plain,
        explanation=words,
        outcome=Outcome.ADVISE,
        trigger=Trigger.PROTECTIVE,
        chosen=wanted.chosen,
        mode=Autonomy.ADVISE,
        candidates=wanted.candidates,
        constraints=(note,),
    )
