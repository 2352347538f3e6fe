"""Step times fitted from probe and service."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.decisions.decision import StepTime
from controlplane.decisions.step_time import fit_step_times
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepSample

AT = datetime(2026, 1, 1, tzinfo=UTC)
GRID = [(1, 0), (4, 0), (16, 0), (1, 64), (4, 128)]


def law(rows: float, prefill: float) -> float:
    return 0.030 + 0.003 * rows + 0.0008 * prefill


def cells(precision: Precision = Precision.BF16, factor: float = 1.0) -> list[StepSample]:
    return [
        StepSample(precision=precision, decode_rows=r, prefill_tokens=p, step_s=factor * law(r, p), samples=5)
        for r, p in GRID
    ]


def window(index: int, rows: float, prefill: float, factor: float = 1.0, quality: Quality = Quality.OK) -> Observation:
    return Observation(
        AT + timedelta(seconds=5 * index),
        5.0,
        quality,
        step_mean_s=factor * law(rows, prefill),
        decode_rows_mean=rows,
        prefill_tokens_mean=prefill,
    )


class TestFitStepTimes:
    def test_finds_the_law_in_the_probe(self) -> None:
        (found,) = fit_step_times(cells(), [], Precision.BF16)
        assert (found.base_s, found.row_s, found.prefill_token_s) == pytest.approx((0.030, 0.003, 0.0008))
        assert found.error_ratio == pytest.approx(0, abs=1e-6)

    def test_service_sets_the_level_and_the_probe_the_shape(self) -> None:
        """Only batches of 1 and 2 were served, half again slower than the probe: 16 rows are half again slower, too."""
        served = [window(i, 1 + i % 2, 4, factor=1.5) for i in range(20)]
        (found,) = fit_step_times(cells(), served, Precision.BF16)
        assert found.at(16, 0) == pytest.approx(1.5 * law(16, 0), rel=0.02)

    def test_a_precision_not_in_force_is_slowed_by_the_same_factor(self) -> None:
        served = [window(i, 2, 4, factor=1.5) for i in range(20)]
        both = [*cells(), *cells(Precision.INT8, factor=0.5)]
        found = {step.precision: step for step in fit_step_times(both, served, Precision.BF16)}
        assert found[Precision.INT8].at(4, 0) == pytest.approx(0.5 * 1.5 * law(4, 0), rel=0.02)

    def test_without_a_probe_varied_windows_do(self) -> None:
        served = [window(i, 1 + i % 8, 4 * (i % 3)) for i in range(24)]
        (found,) = fit_step_times([], served, Precision.BF16)
        assert found.at(4, 0) == pytest.approx(law(4, 0), rel=0.01)

    def test_without_a_probe_equal_windows_tell_nothing(self) -> None:
        assert fit_step_times([], [window(i, 4, 8) for i in range(50)], Precision.BF16) == ()

    def test_few_windows_tell_nothing(self) -> None:
        assert fit_step_times([], [window(i, 1 + i, 0) for i in range(9)], Precision.BF16) == ()

    def test_windows_that_cannot_be_trusted_are_left_out(self) -> None:
        spoiled = [window(i, 2, 4, factor=9, quality=Quality.STALE) for i in range(20)]
        assert fit_step_times(cells(), spoiled, Precision.BF16) == fit_step_times(cells(), [], Precision.BF16)

    def test_the_error_is_that_of_the_newest_windows(self) -> None:
        served = [window(i, 2, 4, factor=1.0 if i % 2 else 1.4) for i in range(24)]
        (found,) = fit_step_times(cells(), served, Precision.BF16)
        assert 0.1 < found.error_ratio < 0.25


class TestOfferedByNodes:
    OFFERED = StepTime(Precision.BF16, 0.01, 0.0, 0.0005, 50, 0.02, curve=((8, 0.0), (16, 0.02)))

    def test_is_taken_over_the_fit_to_the_probe(self) -> None:
        (found,) = fit_step_times(cells(), [], Precision.BF16, [self.OFFERED])
        assert found == self.OFFERED

    def test_windows_set_its_level_and_judge_it(self) -> None:
        served = [
            replace(window(i, 4 + i % 12, 10), step_mean_s=1.3 * self.OFFERED.at(4 + i % 12, 10)) for i in range(24)
        ]
        (found,) = fit_step_times(cells(), served, Precision.BF16, [self.OFFERED])
        assert found.at(12, 5) == pytest.approx(1.3 * self.OFFERED.at(12, 5))
        assert found.error_ratio == pytest.approx(0, abs=1e-9)

    def test_other_precisions_are_fitted_here_as_before(self) -> None:
        both = [*cells(), *cells(Precision.INT8, factor=0.5)]
        found = {step.precision: step for step in fit_step_times(both, [], Precision.BF16, [self.OFFERED])}
        assert found[Precision.BF16] == self.OFFERED
        assert found[Precision.INT8].at(4, 0) == pytest.approx(0.5 * law(4, 0))
