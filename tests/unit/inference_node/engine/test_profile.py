"""Which cell a step counts for, and what the table says."""

from inference_node.contract.settings import Precision
from inference_node.engine.profile import StepTimes


class TestStepTimes:
    def test_a_step_counts_for_the_smallest_cell_it_fits_in(self) -> None:
        times = StepTimes()
        for rows, tokens in ((3, 0), (4, 0), (5, 0), (0, 65), (1, 9000)):
            times.add(Precision.BF16, rows, tokens, 0.1)
        cells = {(cell.decode_rows, cell.prefill_tokens): cell.samples for cell in times.snapshot().cells}
        assert cells == {(4, 0): 2, (8, 0): 1, (0, 128): 1, (1, 8192): 1}

    def test_the_median_forgets_old_steps_and_ignores_a_spike(self) -> None:
        times = StepTimes()
        for _ in range(32):
            times.add(Precision.INT8, 1, 0, 0.5)
        for step_s in [0.1] * 20 + [9.0]:
            times.add(Precision.INT8, 1, 0, step_s)
        (cell,) = times.snapshot().cells
        assert (cell.step_s, cell.samples) == (0.1, 32)

    def test_a_clock_that_stood_still_is_no_measurement(self) -> None:
        times = StepTimes()
        times.add(Precision.FP32, 1, 0, 0.0)
        assert times.snapshot().cells == ()
