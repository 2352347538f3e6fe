"""What takes a canary back at once, as far as a decision can foresee it: what a guard would undo is not worth trying."""

from controlplane.decisions.decision import Predicted
from controlplane.decisions.policy import Policy

LATENCY_RATIO = 2.0  # over what it would be without the change, and beyond the objective
SLO_RATIO = 3.0  # times the objective, and worse by more than the margin


def would_be_taken_back(now: Predicted, then: Predicted, policy: Policy) -> bool:
    """Whether one of its latencies is what guards act on, whatever becomes of the other. By one model, and under one load."""
    pairs = (
        (now.ttft_p95_s, then.ttft_p95_s, policy.slo.ttft_p95_s),
        (now.itl_p95_s, then.itl_p95_s, policy.slo.itl_p95_s),
    )
    worse = 1 + policy.rollout.margin
    return any(
        (after >= LATENCY_RATIO * before and after > slo) or (after > worse * before and after > SLO_RATIO * slo)
        for before, after, slo in pairs
    )
