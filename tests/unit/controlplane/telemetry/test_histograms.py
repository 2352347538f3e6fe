"""Quantiles of buckets, by cases worked out from Prometheus' rules for histogram_quantile."""

import math

import pytest

from controlplane.telemetry.histograms import bucket_quantile, count_above

INF = math.inf
COUNTS = {0.1: 10.0, 0.5: 30.0, 1.0: 40.0, INF: 40.0}


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.25, 0.1), (0.125, 0.05), (0.5, 0.3), (0.75, 0.5), (0.95, 0.9), (1.0, 1.0)],
)
def test_observations_are_spread_evenly_within_a_bucket(q: float, expected: float) -> None:
    assert bucket_quantile(q, COUNTS) == pytest.approx(expected)


def test_beyond_the_last_bound_nothing_is_known() -> None:
    assert bucket_quantile(0.95, {0.1: 1.0, 0.5: 2.0, INF: 40.0}) == 0.5


def test_a_count_below_the_one_before_counts_as_that() -> None:
    assert bucket_quantile(0.5, {0.1: 10.0, 0.5: 9.0, 1.0: 20.0, INF: 20.0}) == pytest.approx(0.1)
    assert bucket_quantile(0.75, {0.1: 10.0, 0.5: 9.0, 1.0: 20.0, INF: 20.0}) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "counts", [{}, {INF: 4.0}, {0.1: 1.0, 0.5: 2.0}, {0.1: 0.0, INF: 0.0}], ids=["none", "one", "no end", "nobody"]
)
def test_without_observations_there_is_none(counts: dict[float, float]) -> None:
    assert bucket_quantile(0.95, counts) is None


class TestCountAbove:
    @pytest.mark.parametrize(
        ("limit", "above"),
        [(0.1, 30.0), (0.3, 20.0), (0.5, 10.0), (1.0, 0.0), (0.05, 35.0), (0.0, 40.0)],
    )
    def test_is_exact_at_a_bound_and_spreads_evenly_between(self, limit: float, above: float) -> None:
        assert count_above(limit, COUNTS) == pytest.approx((above, 40.0))

    def test_beyond_the_last_bound_all_counts_as_above(self) -> None:
        assert count_above(9.0, {0.1: 1.0, 0.5: 2.0, INF: 40.0}) == (38.0, 40.0)

    def test_a_count_below_the_one_before_counts_as_that(self) -> None:
        assert count_above(0.5, {0.1: 10.0, 0.5: 9.0, 1.0: 20.0, INF: 20.0}) == (10.0, 20.0)

    def test_a_window_without_any_has_none_above(self) -> None:
        assert count_above(0.3, dict.fromkeys(COUNTS, 0.0)) == (0.0, 0.0)

    def test_what_is_no_histogram_counts_nothing(self) -> None:
        assert count_above(0.3, {}) is None
        assert count_above(0.3, {0.1: 1.0, 0.5: 2.0}) is None
