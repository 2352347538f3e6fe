"""Step memories stay within bounds, whatever windows say: no single one moves a prediction by more than a tenth, a changed
machine is learned in a stated number of windows, and what is kept comes back as it was."""

import json
import math
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.decisions.decision import StepTime
from controlplane.decisions.step_memory.box import Symmetric, dot, minimum, times
from controlplane.decisions.step_memory.memory import LEAST, MOST, Memory, reference_of
from controlplane.decisions.step_memory.update import MOST_MOVED, Fact, updated
from inference_node.contract.settings import Precision

AT = datetime(2026, 1, 1, tzinfo=UTC)
BASIS = StepTime(Precision.BF16, 0.02, 0.001, 0.0002, 50, 0.03, curve=((8, 0.001), (64, 0.02)))
ASKED = [(rows, prefill) for rows in (0, 1, 16, 256) for prefill in (0, 64, 4096)]

QUICK = settings(max_examples=100, deadline=None)

anything = st.floats(allow_nan=True, allow_infinity=True)
wild = st.floats(min_value=1e-9, max_value=1e9)
rows = st.floats(min_value=0, max_value=512)
prefills = st.floats(min_value=0, max_value=8192)
factor = st.floats(min_value=0.6, max_value=3.0)
sound = st.lists(st.tuples(rows, prefills, st.floats(min_value=0.8, max_value=1.25)), max_size=60)


def taught(
    facts: list[tuple[float, float, float]], law: tuple[float, float, float], memory: Memory | None = None
) -> Memory:
    memory = memory or Memory(reference_of(BASIS))
    for decode_rows, prefill, noise in facts:
        step_s = noise * BASIS.by_parts(*law).at(decode_rows, prefill)
        memory = updated(memory, Fact(_next(memory), decode_rows, prefill, step_s), BASIS, 1.0)
    return memory


def _next(memory: Memory) -> datetime:
    return (memory.learned_at or AT) + timedelta(seconds=15)


@QUICK
@given(sound, st.lists(st.tuples(anything, anything, anything), max_size=40))
def test_factors_stay_within_bounds_whatever_comes(
    before: list[tuple[float, float, float]], facts: list[tuple[float, float, float]]
) -> None:
    memory = taught(before, (1.0, 1.0, 1.0))
    for decode_rows, prefill, step_s in facts:
        memory = updated(memory, Fact(_next(memory), decode_rows, prefill, step_s), BASIS, 1.0)
        assert all(LEAST <= each <= MOST for each in memory.factors)
        assert LEAST <= memory.level <= MOST
        assert all(math.isfinite(value) for value in (*memory.a, *memory.b, memory.error or 0.0))


@QUICK
@given(sound.filter(lambda facts: len(facts) >= 1), factor, factor, factor, rows, prefills, wild)
def test_one_window_moves_no_prediction_by_more_than_a_tenth(
    before: list[tuple[float, float, float]], base: float, row: float, token: float, at_rows: float, at_prefill: float,
    step_s: float,
) -> None:  # fmt: skip
    """Unless it is the sixth of eight that say the same: then the machine has changed."""
    memory = taught(before, (base, row, token))
    after = updated(memory, Fact(_next(memory), at_rows, at_prefill, step_s), BASIS, 1.0)
    if after.changes > memory.changes:
        return
    then, now = BASIS.by_parts(*memory.factors), BASIS.by_parts(*after.factors)
    for each in ASKED:
        assert 1 / (MOST_MOVED + 1e-9) <= now.at(*each) / then.at(*each) <= MOST_MOVED + 1e-9


@QUICK
@given(sound, st.lists(st.tuples(rows, prefills, wild), min_size=1, max_size=2))
def test_two_poisoned_windows_are_never_taken_for_a_changed_machine(
    before: list[tuple[float, float, float]], poison: list[tuple[float, float, float]]
) -> None:
    calm = [(2.0 + i % 12, 10.0 + 37 * i % 80, 1.0) for i in range(40)]
    memory = taught([*before, *calm], (1.0, 1.0, 1.0))
    changes = memory.changes
    for each in poison:
        memory = updated(memory, Fact(_next(memory), *each), BASIS, 1.0)
    assert taught(calm, (1.0, 1.0, 1.0), memory).changes == changes


@QUICK
@given(factor, factor, factor, st.sampled_from([0.6, 0.7, 1.5, 1.3]))
def test_a_machine_that_changed_is_learned_within_thirty_windows(
    base: float, row: float, token: float, slower: float
) -> None:
    """To 5 % of steps as they are served. 1.3 and 0.7 are near the fifth from which on a machine counts as changed."""
    law = (base, row, token)
    served = [(2.0 + i % 12, 10.0 + 37 * i % 80, 1.0) for i in range(80)]
    memory = taught(served, law)
    changed = (base * slower, row * slower, token * slower)
    if not all(LEAST <= each <= MOST for each in changed):
        return
    memory = taught(served[:30], changed, memory)
    for each in ((2, 10), (8, 50), (13, 80)):
        truth = BASIS.by_parts(*changed).at(*each)
        assert abs(BASIS.by_parts(*memory.factors).at(*each) / truth - 1) < 0.05


@QUICK
@given(sound, factor, factor, factor)
def test_equal_windows_make_equal_memories_and_json_brings_them_back(
    facts: list[tuple[float, float, float]], base: float, row: float, token: float
) -> None:
    """Half of it learned after a journey through JSON is the same to the last bit."""
    law, half = (base, row, token), len(facts) // 2
    straight = taught(facts, law)
    kept = Memory.from_json(json.loads(json.dumps(taught(facts[:half], law).to_json())))
    assert taught(facts[half:], law, kept) == straight == taught(facts, law)


entries = st.floats(min_value=-1, max_value=1)


@QUICK
@given(st.lists(entries, min_size=9, max_size=9), st.lists(st.floats(-3, 9), min_size=3, max_size=3))
def test_no_point_of_the_box_is_lower_than_the_minimum(of: list[float], aims: list[float]) -> None:
    columns = [(of[i], of[3 + i], of[6 + i]) for i in range(3)]
    gram = [
        dot(columns[i], columns[j]) + (0.03 if i == j else 0.0)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    ]
    matrix: Symmetric = (gram[0], gram[1], gram[2], gram[3], gram[4], gram[5])
    aim = (aims[0], aims[1], aims[2])

    def height(x: tuple[float, float, float]) -> float:
        return dot(x, times(matrix, x)) / 2 - dot(aim, x)

    found = minimum(matrix, aim, LEAST, MOST)
    assert all(LEAST <= each <= MOST for each in found)
    steps = [LEAST + (MOST - LEAST) * i / 6 for i in range(7)]
    assert all(height(found) <= height((x, y, z)) + 1e-6 for x in steps for y in steps for z in steps)
