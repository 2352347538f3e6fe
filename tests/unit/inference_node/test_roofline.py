"""Utilisation as least time over time taken."""

import pytest

from inference_node.roofline import Roofline


def test_the_longer_of_reading_and_multiplying_counts() -> None:
    reading, multiplying = Roofline(100.0, 1e9), Roofline(1e9, 100.0)
    for roofline in (reading, multiplying):
        roofline.add(50.0, 50.0, 1.0)
        assert roofline.ratio == pytest.approx(0.5)


def test_long_steps_count_by_their_length() -> None:
    roofline = Roofline(100.0, 0.0)
    for _ in range(1000):
        roofline.add(10.0, 0.0, 0.1)  # at the limit
        roofline.add(10.0, 0.0, 0.9)
    assert roofline.ratio == pytest.approx(0.2, rel=0.05)


def test_nothing_is_said_of_what_is_not_known() -> None:
    for roofline in (Roofline(0.0, 0.0), Roofline(100.0, 100.0)):
        roofline.add(0.0, 0.0, 1.0)
        assert roofline.ratio == 0.0
