import numpy as np
import pytest

from controlplane.forecasting.spikes.truth import slo_of, truth_of


def p99(*runs: tuple[int, float]) -> np.ndarray:
    return np.concatenate([np.full(windows, value) for windows, value in runs])


class TestTruth:
    def test_eight_windows_above_the_slo_are_a_spike_and_seven_are_not(self) -> None:
        truth = truth_of(p99((10, 0.1), (8, 2.0), (30, 0.1), (7, 2.0), (10, 0.1)), slo_s=1.0)
        assert truth.spikes == ((10, 18),)
        assert truth.minor == ((48, 55),)

    def test_spikes_less_than_20_windows_apart_are_one(self) -> None:
        near = truth_of(p99((5, 0.1), (8, 2.0), (19, 0.1), (8, 2.0), (5, 0.1)), slo_s=1.0)
        far = truth_of(p99((5, 0.1), (8, 2.0), (20, 0.1), (8, 2.0), (5, 0.1)), slo_s=1.0)
        assert near.spikes == ((5, 40),)
        assert far.spikes == ((5, 13), (33, 41))

    def test_one_window_above_is_neither_spike_nor_breach_but_blocked(self) -> None:
        truth = truth_of(p99((5, 0.1), (1, 2.0), (5, 0.1)), slo_s=1.0)
        assert not truth.spikes
        assert not truth.minor
        assert np.flatnonzero(truth.blocked).tolist() == [5]

    def test_windows_between_the_parts_of_one_spike_are_blocked(self) -> None:
        truth = truth_of(p99((5, 0.1), (8, 2.0), (10, 0.1), (8, 2.0), (5, 0.1)), slo_s=1.0)
        assert np.flatnonzero(truth.blocked).tolist() == list(range(5, 31))

    def test_a_window_without_a_first_token_breaks_no_slo(self) -> None:
        truth = truth_of(p99((5, 0.1), (8, np.nan), (5, 0.1)), slo_s=1.0)
        assert not truth.blocked.any()

    def test_the_slo_is_five_times_the_median_of_what_is_known(self) -> None:
        assert slo_of(np.array([0.1, np.nan, 0.2, 0.3])) == pytest.approx(1.0)
        assert np.isnan(slo_of(np.array([np.nan])))
