"""One level's memory: what it takes from windows, when it says so, and when it lets go."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from controlplane.decisions.decision import StepTime
from controlplane.decisions.step_memory.memory import Memory, ModelState, moved_to, reference_of, weakened
from controlplane.decisions.step_memory.update import Fact, updated
from inference_node.contract.settings import Precision

AT = datetime(2026, 1, 1, tzinfo=UTC)
BASIS = StepTime(Precision.BF16, 0.02, 0.001, 0.0002, 50, 0.03)
LAW = (1.3, 0.9, 1.6)
NEW = Memory(reference_of(BASIS))


def fact(index: int, rows: float, prefill: float, slower: float = 1.0) -> Fact:
    return Fact(AT + timedelta(seconds=15 * index), rows, prefill, slower * BASIS.by_parts(*LAW).at(rows, prefill))


def taught(count: int, *, memory: Memory = NEW, first: int = 0, slower: float = 1.0, spread: int = 12) -> Memory:
    for i in range(first, first + count):
        memory = updated(memory, fact(i, 2 + i % spread, 10 + 37 * i % 80, slower), BASIS, 1.2)
    return memory


class TestReadiness:
    def test_the_three_are_one_until_ten_windows_were_seen(self) -> None:
        memory = taught(9)
        assert memory.state is ModelState.LEARNING
        assert len(set(memory.factors)) == 1

    def test_equal_batches_never_tell_them_apart(self) -> None:
        memory = taught(200, spread=1)
        assert memory.state is ModelState.LEVEL
        assert len(set(memory.factors)) == 1
        assert memory.factors[0] == pytest.approx(BASIS.by_parts(*LAW).at(2, 47) / BASIS.at(2, 47), rel=0.05)

    def test_varied_ones_do(self) -> None:
        memory = taught(80)
        assert memory.state is ModelState.READY
        assert memory.factors == pytest.approx(LAW, rel=0.06)

    def test_a_night_of_equal_batches_takes_nothing_back(self) -> None:
        """What is known of other batches is forgotten where the windows tell of them, and nowhere else."""
        day = taught(80)
        night = day
        for i in range(80, 2080):
            night = updated(night, fact(i, 2, 20), BASIS, 1.2)
        assert night.factors == pytest.approx(day.factors, rel=0.02)
        assert night.is_ready


class TestWhatCountsForNothing:
    @pytest.mark.parametrize(
        "bad",
        [
            {"step_s": float("nan")}, {"step_s": 0.0}, {"step_s": -1.0}, {"step_s": float("inf")},
            {"decode_rows": -1.0}, {"decode_rows": float("nan")}, {"prefill_tokens": float("inf")},
        ],
    )  # fmt: skip
    def test_figures_that_cannot_be(self, bad: dict[str, float]) -> None:
        memory = taught(20)
        figures = {"decode_rows": 4.0, "prefill_tokens": 10.0, "step_s": 0.04} | bad
        assert updated(memory, Fact(AT + timedelta(seconds=300), **figures), BASIS, 1.2) is memory

    def test_the_same_window_again_and_an_older_one(self) -> None:
        memory = taught(20)
        assert updated(memory, fact(19, 4, 10), BASIS, 1.2) is memory
        assert updated(memory, fact(3, 4, 10), BASIS, 1.2) is memory

    def test_a_step_that_the_nodes_say_costs_nothing(self) -> None:
        memory = taught(20)
        assert updated(memory, fact(20, 4, 10), BASIS.scaled(0.0), 1.2) is memory


class TestChangeOfTheMachine:
    def test_is_found_within_eight_windows_and_learned(self) -> None:
        before = taught(80)
        early = taught(5, memory=before, first=80, slower=1.5)
        assert (early.changes, early.is_degraded) == (0, False)
        found = taught(8, memory=before, first=80, slower=1.5)
        assert (found.changes, found.state) == (1, ModelState.DEGRADED)
        later = taught(20, memory=before, first=80, slower=1.5)
        expected = [1.5 * factor for factor in LAW]
        assert BASIS.by_parts(*later.factors).at(64, 256) == pytest.approx(
            BASIS.by_parts(*expected).at(64, 256), rel=0.05
        )

    def test_is_told_once_and_over_after_a_calm_while(self) -> None:
        memory = taught(8, memory=taught(80), first=80, slower=1.5)
        memory = taught(20, memory=memory, first=88, slower=1.5)
        assert memory.is_degraded
        for i in range(108, 140):  # said_s as it came: nothing to say of the error
            given = fact(i, 2 + i % 12, 10, 1.5)
            memory = updated(memory, given, BASIS, 1.2, said_s=given.step_s)
        assert (memory.is_degraded, memory.changes) == (False, 1)

    def test_a_model_that_stays_wrong_stays_degraded(self) -> None:
        memory = taught(8, memory=taught(80), first=80, slower=1.5)
        for i in range(88, 140):
            given = fact(i, 2 + i % 12, 10, 1.5)
            memory = updated(memory, given, BASIS, 1.2, said_s=1.3 * given.step_s)
        assert memory.error == pytest.approx(0.3)
        assert memory.is_degraded

    def test_a_memory_that_knew_nothing_yet_has_not_degraded(self) -> None:
        memory = NEW
        for i in range(12):  # begun at a third of the level that the windows have
            memory = updated(memory, fact(i, 2 + i % 12, 10), BASIS, 0.5)
        assert (memory.changes, memory.is_degraded) == (1, False)

    def test_two_wild_windows_are_no_change(self) -> None:
        memory = taught(80)
        for i, slower in ((80, 10.0), (81, 12.0)):
            memory = updated(memory, fact(i, 6, 30, slower), BASIS, 1.2)
        memory = taught(20, memory=memory, first=82)
        assert memory.changes == 0
        assert memory.factors == pytest.approx(LAW, rel=0.08)


class TestAnotherFitOfTheNodes:
    def test_of_the_same_shape_leaves_the_seconds_as_they_are(self) -> None:
        memory = taught(80)
        fitted = BASIS.by_parts(1.1, 1.05, 1.15)
        moved = moved_to(memory, reference_of(fitted))
        assert moved.windows == memory.windows
        was, now = BASIS.by_parts(*memory.factors), fitted.by_parts(*moved.factors)
        for rows, prefill in ((1, 0), (16, 0), (64, 256)):
            assert now.at(rows, prefill) == pytest.approx(was.at(rows, prefill))
        # And it goes on from there as it would have without.
        next_one = updated(moved, fact(80, 9, 40), fitted, 1.2)
        expected = updated(memory, fact(80, 9, 40), BASIS, 1.2)
        assert fitted.by_parts(*next_one.factors).at(64, 0) == pytest.approx(
            BASIS.by_parts(*expected.factors).at(64, 0), rel=0.01
        )

    def test_of_the_same_shape_at_another_level_too(self) -> None:
        memory = taught(80)
        moved = moved_to(memory, reference_of(BASIS.scaled(1.5)))
        assert moved.windows == memory.windows
        assert moved.factors == pytest.approx([factor / 1.5 for factor in memory.factors])

    def test_of_another_shape_begins_anew(self) -> None:
        moved = moved_to(taught(80), reference_of(BASIS.by_parts(1.0, 2.0, 1.0)))
        assert (moved.windows, moved.factors, moved.state) == (0, (1.0, 1.0, 1.0), ModelState.LEARNING)

    def test_of_another_shape_is_no_change_of_the_machine_and_no_recovery(self) -> None:
        known = replace(taught(80), changes=2, since_change=7, is_degraded=True)
        moved = moved_to(known, reference_of(BASIS.by_parts(1.0, 2.0, 1.0)))
        assert (moved.changes, moved.since_change, moved.is_degraded) == (2, 7, True)

    @pytest.mark.parametrize("reference", [(0.0, 0.0, 0.0), (0.02, 0.016, -1.0), reference_of(BASIS.scaled(9.0))])
    def test_that_is_none_or_of_another_world_too(self, reference: tuple[float, float, float]) -> None:
        assert moved_to(taught(80), reference).windows == 0

    def test_the_same_again_is_no_other(self) -> None:
        memory = taught(80)
        assert moved_to(memory, reference_of(BASIS)) is memory


def test_what_is_weakened_says_the_same_and_gives_way_sooner() -> None:
    memory = taught(80)
    weak = weakened(memory, 0.1)
    assert weak.factors == memory.factors
    # Few windows at another level, too near for a change of the machine.
    firm, soft = (taught(6, memory=each, first=80, slower=1.15).factors for each in (memory, weak))
    assert soft[0] > firm[0] > memory.factors[0]


def test_survives_json_exactly() -> None:
    for memory in (NEW, taught(3), taught(80), taught(8, memory=taught(80), first=80, slower=1.5)):
        assert Memory.from_json(memory.to_json()) == memory


def test_the_fast_error_is_that_of_the_last_windows() -> None:
    assert NEW.fast_error is None
    assert taught(80).fast_error == pytest.approx(0.0, abs=0.02)
    assert taught(5, memory=taught(80), first=80, slower=1.5).fast_error == pytest.approx(0.45, abs=0.1)


class TestTheRaceOfOneAgainstThree:
    """Three factors are told where they foretell windows better than one level does, and not before."""

    def test_a_node_that_is_right_but_for_its_level_keeps_one(self) -> None:
        rng, memory = Random(3), NEW
        for i in range(300):
            rows, prefill = 2 + i % 12, 10 + 37 * i % 80
            step_s = 1.3 * BASIS.at(rows, prefill) * (1 + 0.05 * rng.uniform(-1, 1))
            memory = updated(memory, Fact(fact(i, 1, 1).at, rows, prefill, step_s), BASIS, 1.3)
        assert memory.is_ready
        assert memory.told == pytest.approx((1.3, 1.3, 1.3), rel=0.03)

    def test_three_that_do_better_are_told(self) -> None:
        memory = taught(60)
        assert (memory.is_proven, memory.told) == (True, memory.factors)

    def test_not_within_the_first_windows_of_the_race(self) -> None:
        memory = taught(18)
        assert (memory.is_ready, memory.is_proven) == (True, False)
        assert len(set(memory.told)) == 1

    def test_what_fails_later_is_told_no_more_until_it_wins_clearly(self) -> None:
        even = replace(taught(60), misses=(0.05, 0.05))
        # As one level has it, and as the three do not.
        level_is_right = Fact(fact(60, 1, 1).at, 64, 0, even.level * BASIS.at(64, 0))
        lost = updated(even, level_is_right, BASIS, 1.2)
        assert (lost.is_proven, lost.told) == (False, (lost.level,) * 3)
        # Even again is enough to stay told, and not to be told again.
        tied = replace(lost, misses=(0.05, 0.05))
        assert not updated(tied, fact(61, 5, 20), BASIS, 1.2).is_proven
        assert updated(replace(tied, is_proven=True), fact(61, 5, 20), BASIS, 1.2).is_proven
        assert taught(40, memory=tied, first=61).is_proven
