"""Whether an idle engine should wait for company before it starts: only while company is likely to come in time."""

import statistics
from collections import deque
from collections.abc import Sequence as SequenceOf

from inference_node.scheduling.sequence import Sequence
from inference_node.scheduling.step_budget import StepBudget

# Pauses between arrivals that are remembered; their median is what the next is expected to be.
_KEPT = 15


class Gatherer:
    """Watches arrivals. Waiting can pay only when the next is expected before the wait is over."""

    def __init__(self) -> None:
        self._pauses: deque[float] = deque(maxlen=_KEPT)
        self._last_s: float | None = None

    def arrived(self, at_s: float) -> None:
        if self._last_s is not None:
            self._pauses.append(max(0.0, at_s - self._last_s))
        self._last_s = at_s

    def delay_s(self, waiting: SequenceOf[Sequence], wait_s: float, now: float, budget: StepBudget) -> float:
        """How long the engine should still gather; 0 to go at once. Never beyond wait_s after the first arrival."""
        left = min(sequence.arrived_s for sequence in waiting) + wait_s - now
        if left <= 0:
            return 0.0
        if not self._pauses:  # nothing is known of the traffic: as the operator says
            return left
        pause = statistics.median(self._pauses)
        expected = max(0.0, (self._last_s or now) + pause - now)
        if expected > left:
            return 0.0
        return left if _pays(waiting, expected, budget) else 0.0


def _pays(waiting: SequenceOf[Sequence], expected_s: float, budget: StepBudget) -> bool:
    """Whether first tokens come earlier, summed over requests, when the next one is waited for and its prompt run along.

    A prompt that is all arithmetic costs the same alone, and waiting for it never pays; a short one is mostly a fixed cost.
    """
    count = len(waiting)
    here = sum(sequence.num_tokens for sequence in waiting)
    one = max(1, here // count)
    first, second, joint = (budget.predict_s(0, tokens, 0) for tokens in (here, one, here + one))
    if first is None or second is None or joint is None:
        return True  # nothing is known: as the operator says
    apart_s = count * first + max(expected_s, first) - expected_s + second
    return count * (expected_s + joint) + joint < apart_s
