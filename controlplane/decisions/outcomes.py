"""From what was chosen to the decision that is recorded: APPLY, ADVISE or HOLD, by autonomy and what was changed lately."""

from controlplane.decisions import explain
from controlplane.decisions.decision import Candidate, Constraint, Decision, DecisionInputs
from controlplane.decisions.guardrails import change_blocks
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.decisions.situation import Situation
from controlplane.decisions.weighing import Weighed
from inference_node.contract.settings import EngineSettings


def proposed(
    inputs: DecisionInputs,
    situation: Situation,
    chosen: Weighed,
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
        return decided(
            inputs, situation, Outcome.HOLD, block.reason, words, shown, trigger, constraints=notes, mode=level
        )
    if level is Autonomy.AUTO:
        return decided(inputs, situation, Outcome.APPLY, reason, text, shown, trigger, settings, notes, level)
    note = explain.needs_a_person(inputs.settings, settings, inputs.policy, level)
    words = f"{text} {note.detail}"
    if level.rank >= Autonomy.ADVISE.rank:
        return decided(
            inputs, situation, Outcome.ADVISE, reason, words, shown, trigger, settings, (*notes, note), level
        )
    return decided(
        inputs, situation, Outcome.HOLD, Reason.AUTONOMY, words, shown, trigger, constraints=(*notes, note), mode=level
    )


def held(
    inputs: DecisionInputs,
    situation: Situation | None,
    reason: Reason,
    text: str,
    constraints: tuple[Constraint, ...] = (),
) -> Decision:
    return decided(inputs, situation, Outcome.HOLD, reason, text, (), Trigger.TICK, constraints=constraints)


def decided(
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
