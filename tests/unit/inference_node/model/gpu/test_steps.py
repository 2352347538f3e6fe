"""Steps whose size is not captured yet; without a device."""

from typing import Any

import pytest

from inference_node.model.gpu.shapes import EVERY_SHAPE, LARGEST, StepShape
from inference_node.model.gpu.steps import Steps

DECODE_8, DECODE_16 = StepShape(8, None), StepShape(16, None)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    pool: Any = None
    made = Steps(pool, pool)
    monkeypatch.setattr(made, "capture", lambda shape, store: made._graphs.setdefault(shape, pool))
    return made


def test_the_first_step_of_all_is_captured_and_later_ones_are_stood_in_for(steps: Steps) -> None:
    store: Any = None
    assert steps._captured_for(LARGEST, store) == LARGEST
    assert steps._captured_for(DECODE_8, store) == LARGEST
    steps.capture(DECODE_16, store)
    assert steps._captured_for(DECODE_8, store) == DECODE_16
    assert list(steps.recent) == [LARGEST, DECODE_8, DECODE_8]


def test_what_was_missed_is_captured_next_and_then_the_rest(steps: Steps) -> None:
    store: Any = None
    steps.capture(LARGEST, store)
    steps._captured_for(DECODE_16, store)
    found = []
    while (shape := steps.missing()) is not None:
        found.append(shape)
        steps.capture(shape, store)
    assert found[0] == DECODE_16
    assert sorted(map(repr, found)) == sorted(repr(shape) for shape in EVERY_SHAPE if shape != LARGEST)
