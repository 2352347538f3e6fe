"""The small least-squares problem in its box."""

import pytest

from controlplane.decisions.step_memory.box import Symmetric, dot, minimum, times

ROUND: Symmetric = (2.0, 0.0, 0.0, 2.0, 0.0, 2.0)
SKEW: Symmetric = (2.0, 0.5, 0.1, 1.0, 0.3, 3.0)


def test_the_minimum_in_the_open() -> None:
    assert minimum(ROUND, (2.0, 4.0, 6.0), 0.5, 4.0) == (1.0, 2.0, 3.0)


def test_is_where_the_gradient_is_nought() -> None:
    found = minimum(SKEW, (3.0, 2.0, 5.0), 0.0, 4.0)
    assert times(SKEW, found) == pytest.approx((3.0, 2.0, 5.0))


def test_on_a_face_the_others_are_solved_again() -> None:
    """The third would be 5: held at 4, the other two are the best beside it."""
    skew: Symmetric = (2.0, 0.0, 0.5, 2.0, 0.5, 2.0)
    found = minimum(skew, (4.0, 4.0, 12.0), 0.5, 4.0)
    assert found == pytest.approx((1.0, 1.0, 4.0))
    assert all(_height(skew, found) <= _height(skew, other) for other in _grid())


def test_in_a_corner() -> None:
    assert minimum(ROUND, (-9.0, 90.0, 90.0), 0.5, 4.0) == (0.5, 4.0, 4.0)


def _height(matrix: Symmetric, x: tuple[float, float, float]) -> float:
    aim = (4.0, 4.0, 12.0)
    return dot(x, times(matrix, x)) / 2 - dot(aim, x)


def _grid() -> list[tuple[float, float, float]]:
    steps = [0.5 + 0.5 * i for i in range(8)]
    return [(x, y, z) for x in steps for y in steps for z in steps]
