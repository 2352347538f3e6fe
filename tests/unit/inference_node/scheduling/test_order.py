"""Whose turn it is."""

from inference_node.contract.settings import SchedulingPolicy
from inference_node.scheduling.order import AGING_BOUND_S, class_delay_s, due_s, turn_s
from inference_node.scheduling.sequence import Sequence
from tests.support.scheduling import make_sequence


def turn(sequence: Sequence, policy: str, *, is_lost: bool = False, cached_share: float = 0.0) -> float:
    return turn_s(sequence, SchedulingPolicy(policy), is_lost=is_lost, cached_share=cached_share)


class TestClasses:
    def test_every_class_differs_and_none_leaves_the_bound(self) -> None:
        delays = [class_delay_s(priority) for priority in (-(2**31), -5, -1, 0, 1, 2, 5, 2**31)]
        assert delays == sorted(set(delays)) and max(map(abs, delays)) < AGING_BOUND_S
        assert class_delay_s(0) == 0.0


class TestDeadlines:
    def test_the_earliest_goes_first_and_those_without_are_patient_not_endless(self) -> None:
        soon, late, never = (make_sequence(name, arrived_s=0.0) for name in ("soon", "late", "never"))
        soon.deadline_s, late.deadline_s = 2.0, 3000.0
        assert turn(soon, "deadline") < turn(late, "deadline") == turn(never, "deadline") == AGING_BOUND_S

    def test_one_that_cannot_be_met_any_more_gives_way(self) -> None:
        missed, open_ = make_sequence("missed"), make_sequence("open")
        missed.deadline_s, open_.deadline_s = 1.0, 2.0
        assert turn(missed, "deadline", is_lost=True) > turn(open_, "deadline")

    def test_other_policies_ignore_them(self) -> None:
        sequence = make_sequence("a", arrived_s=3.0)
        sequence.deadline_s = 4.0
        assert turn(sequence, "fcfs") == turn(sequence, "prefix") == 3.0

    def test_class_and_deadline_say_who_is_due(self) -> None:
        low = make_sequence("low", priority=1)
        soon, late = make_sequence("soon"), make_sequence("late")
        soon.deadline_s, late.deadline_s = 1.0, 5.0
        assert due_s(soon) < due_s(late) < due_s(low)


class TestPrefix:
    def test_a_cached_share_is_worth_so_much_of_the_bound(self) -> None:
        assert turn(make_sequence("a", arrived_s=9.0), "prefix", cached_share=0.5) == 9.0 - AGING_BOUND_S / 2
