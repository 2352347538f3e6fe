"""Which captured size runs a step; without a device."""

from hypothesis import given
from hypothesis import strategies as st

from inference_node.model.gpu.shapes import (
    EVERY_SHAPE,
    LARGEST,
    MAX_RUNS,
    PREFILL_ROWS,
    Run,
    StepShape,
    first_shapes,
    shape_for,
    stand_in,
)

DECODE_1, DECODE_32, DECODE_64 = (StepShape(rows, None) for rows in (1, 32, 64))


def steps(most_tokens: int) -> st.SearchStrategy[list[Run]]:
    run = st.builds(
        lambda count, samples: Run((1,) * count, 0, 0, samples=samples), st.integers(1, most_tokens), st.booleans()
    )
    return st.lists(run, min_size=1, max_size=MAX_RUNS).filter(
        lambda runs: sum(len(run.tokens) for run in runs) <= PREFILL_ROWS[-1]
    )


@given(steps(1) | steps(40), st.sets(st.sampled_from(EVERY_SHAPE)))
def test_what_stands_in_holds_the_step(runs: list[Run], captured: set[StepShape]) -> None:
    found = stand_in(shape_for(runs), {*captured, LARGEST})
    assert found is not None
    tokens, sampled = sum(len(run.tokens) for run in runs), sum(run.samples for run in runs)
    assert found.rows >= tokens
    assert found.outputs >= sampled
    if found.sampled is None:  # every row has logits, and one token of its own
        assert tokens == len(runs) == sampled


def test_the_cheapest_stands_in() -> None:
    captured = [LARGEST, StepShape(64, 64), DECODE_64, DECODE_1]
    assert stand_in(DECODE_32, captured) == DECODE_64
    assert stand_in(StepShape(32, 8), captured) == StepShape(64, 64)
    assert stand_in(StepShape(128, 8), captured) == LARGEST
    assert stand_in(StepShape(128, 8), [DECODE_64]) is None


def test_a_step_that_drops_nothing_is_not_run_by_the_kernel_that_skips() -> None:
    skipping = StepShape(1, None, skips=True)
    assert stand_in(DECODE_1, [skipping, LARGEST]) == LARGEST
    assert stand_in(skipping, [DECODE_1, LARGEST]) == DECODE_1


STAIRS = [StepShape(512, 64), StepShape(256, 8)]


def test_sizes_in_use_are_captured_first_and_one_that_holds_anything() -> None:
    used = [DECODE_1] + 9 * [DECODE_32] + 3 * [StepShape(256, 64)]
    assert first_shapes(used) == [LARGEST, DECODE_32, StepShape(256, 64), DECODE_1, DECODE_64, *STAIRS]
    assert first_shapes([]) == [LARGEST, DECODE_1, StepShape(2, None), *STAIRS]
    assert first_shapes([StepShape(MAX_RUNS, None)]) == [LARGEST, StepShape(MAX_RUNS, None), *STAIRS]


@given(steps(40))
def test_a_prompt_of_a_size_that_did_not_run_before_is_stood_in_for_by_one_near_it(runs: list[Run]) -> None:
    # Decode steps ran alone; then a change lets prompts in.
    found = stand_in(shape_for(runs), first_shapes([DECODE_32]))
    assert found is not None
    tokens, sampled = sum(len(run.tokens) for run in runs), sum(run.samples for run in runs)
    if tokens <= STAIRS[0].rows and sampled <= STAIRS[0].outputs:
        assert found.rows <= STAIRS[0].rows
