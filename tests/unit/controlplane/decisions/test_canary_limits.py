"""Settings whose canary a guard would take back are no way out, and of equal ones what is known comes first."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controlplane.decisions.canary_limits import would_be_taken_back
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs, PastChange, Predicted
from controlplane.decisions.policy import Policy, Slo
from controlplane.decisions.reasons import Outcome, Trigger
from inference_node.contract.settings import EngineSettings
from tests.support.closed_loop import ClosedLoop
from tests.support.simulated_pool import SimulatedPool

POLICY = Policy(slo=Slo(ttft_p95_s=1.0, itl_p95_s=0.03))
SURGE_AT_S = 120.0


def predicted(ttft_s: float, itl_s: float) -> Predicted:
    return Predicted(ttft_s, itl_s, 1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("now", "then", "taken_back"),
    [
        ((40.0, 0.06), (5.0, 0.514), True),  # the queue is gone, and each token takes half a second
        ((40.0, 0.06), (5.0, 0.08), False),  # worse, but not twice as bad
        ((40.0, 0.1), (5.0, 0.115), True),  # beyond three times the objective, and worse by more than the margin
        ((40.0, 0.1), (5.0, 0.105), False),  # within the margin
        ((0.2, 0.01), (0.9, 0.029), False),  # all within the objectives
        ((0.2, 0.06), (1.2, 0.01), True),  # the same for first tokens
    ],
)
def test_each_latency_is_looked_at_alone(now: tuple[float, float], then: tuple[float, float], taken_back: bool) -> None:
    assert would_be_taken_back(predicted(*now), predicted(*then), POLICY) is taken_back


def surging() -> DecisionInputs:
    """What the controller knew when it first acted on a surge."""
    small = EngineSettings(max_batch_size=4, max_batched_tokens=512)
    loop = ClosedLoop(SimulatedPool(lambda at_s: 4.5 if at_s >= SURGE_AT_S else 1.0, small, seed=0))
    loop.run(SURGE_AT_S + 60)
    return next(seen for seen, made in zip(loop.inputs, loop.decisions, strict=True) if made.outcome is Outcome.APPLY)


def test_what_is_known_is_chosen_among_equals() -> None:
    inputs = surging()
    first = decide(inputs)
    assert first.chosen is not None and first.trigger is Trigger.PROTECTIVE
    larger = first.chosen.replace(max_batched_tokens=1024)
    done = PastChange(
        inputs.now - timedelta(minutes=20), Trigger.PROTECTIVE, larger.content_hash(), by_controller=False
    )
    assert decide(replace(inputs, changes=(done,))).chosen == larger
    taken_back = replace(done, rolled_back=True)
    assert decide(replace(inputs, changes=(done, taken_back))).chosen == first.chosen
    assert decide(replace(inputs, changes=(done,), rules=2)).chosen == first.chosen


def test_what_is_known_and_will_not_do_is_left() -> None:
    inputs = surging()
    first = decide(inputs)
    done = PastChange(
        inputs.now - timedelta(minutes=20), Trigger.TICK, inputs.settings.replace(max_batch_size=5).content_hash(),
        by_controller=False,
    )  # fmt: skip
    assert decide(replace(inputs, changes=(done,))).chosen == first.chosen
