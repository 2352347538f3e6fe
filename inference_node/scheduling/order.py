"""In which order requests get their turn: classes, deadlines and favours, all as seconds of head start, so that none can starve.

Every request has a moment, and the earlier moment goes first. Without favours it is the arrival. A class or a policy moves it by
a bounded number of seconds, never more: whoever arrives later than that behind a request cannot overtake it any more. Strict
classes, and SGLang's longest-prefix policy (20 to 60 s for cold prompts, sglang #31710), have no such bound.
"""

from inference_node.contract.settings import SchedulingPolicy
from inference_node.scheduling.sequence import Sequence

# The longest head start that a class, and the longest that a policy, can give.
AGING_BOUND_S = 10.0
# Two requests more than this apart run in the order of their arrival: two classes' head starts and one policy's.
STARVATION_BOUND_S = 3 * AGING_BOUND_S


def class_delay_s(priority: int) -> float:
    """Seconds that a class is set back: 0 for class 0, 5 for 1, 6.7 for 2, towards the bound; the same ahead below 0."""
    return AGING_BOUND_S * priority / (1 + abs(priority))


def due_s(sequence: Sequence) -> float:
    """When it wants to be served, by class and deadline; one without a deadline is patient, but not for ever."""
    latest = sequence.arrived_s + AGING_BOUND_S
    wish = latest if sequence.deadline_s is None else min(sequence.deadline_s, latest)
    return wish + class_delay_s(sequence.priority)


def turn_s(sequence: Sequence, policy: SchedulingPolicy, *, is_lost: bool, cached_share: float) -> float:
    """The moment that orders the waiting.

    is_lost: its deadline cannot be met any more; it then waits like one without, as every further late answer would cost another
    its deadline. cached_share: the part of its tokens that the prefix cache holds.
    """
    delay = class_delay_s(sequence.priority)
    match policy:
        case SchedulingPolicy.FCFS:
            return sequence.arrived_s + delay
        case SchedulingPolicy.DEADLINE:
            return sequence.arrived_s + AGING_BOUND_S + delay if is_lost else due_s(sequence)
        case SchedulingPolicy.PREFIX:
            return sequence.arrived_s + delay - AGING_BOUND_S * cached_share
