"""What answers may lose on average over a day or another span, and whether a decision may spend of it (docs/adr/0036)."""

from controlplane.decisions.certified import loss_of
from controlplane.decisions.decision import DecisionInputs

# A surge that begins with less of the quality budget left than this would soon have to go back.
_SPEND_TO = 0.9


def is_overspent(inputs: DecisionInputs) -> bool:
    """Whether faster, worse answers are in force that the average over the day no longer allows."""
    most, spent = inputs.policy.quality.average_loss_ratio, inputs.quality_spent_ratio
    if most is None or spent is None or spent < most:
        return False
    return loss_of(inputs.settings, inputs.policy, inputs.nodes) > most


def may_spend(inputs: DecisionInputs, loss: float) -> bool:
    """Whether the average allows answers that lose so much: below the budget always, above it while some of it is left."""
    most, spent = inputs.policy.quality.average_loss_ratio, inputs.quality_spent_ratio
    if most is None or loss <= most:
        return True
    return spent is not None and spent < _SPEND_TO * most
