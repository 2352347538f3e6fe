"""Step times foreseen from measured cells."""

import pytest

from inference_node.contract.settings import Precision
from inference_node.engine.predictor import TablePredictor
from inference_node.engine.profile import StepTimes


def predictor(*cells: tuple[int, int, float]) -> TablePredictor:
    times = StepTimes()
    for rows, tokens, step_s in cells:
        times.add(Precision.BF16, rows, tokens, step_s)
    times.add(Precision.INT8, 1, 0, 99.0)
    return TablePredictor(times, Precision.BF16)


class TestTablePredictor:
    def test_lies_on_straight_lines_between_and_beyond_cells(self) -> None:
        line = predictor((1, 0, 0.010), (4, 0, 0.013), (8, 0, 0.021))
        seen = [line.predict_s(rows, 0, 0) for rows in (1, 2, 4, 6, 8, 10)]
        assert seen == [pytest.approx(value) for value in (0.010, 0.011, 0.013, 0.017, 0.021, 0.025)]

    def test_a_mixed_step_pays_the_shared_part_once(self) -> None:
        mixed = predictor((1, 0, 0.010), (4, 0, 0.013), (0, 64, 0.030), (0, 256, 0.100))
        assert mixed.predict_s(4, 64, 0) == pytest.approx(0.013 + 0.030 - 0.010)

    def test_noise_never_makes_more_rows_cheaper(self) -> None:
        noisy = predictor((1, 0, 0.010), (4, 0, 0.008))
        assert noisy.predict_s(4, 0, 0) == 0.010

    def test_says_so_when_it_does_not_know(self) -> None:
        assert predictor().predict_s(1, 0, 0) is None
        assert predictor((1, 0, 0.01)).predict_s(1, 0, 0) == 0.01
        assert predictor((1, 0, 0.01)).predict_s(2, 0, 0) is None
        assert predictor((1, 0, 0.01), (4, 0, 0.02)).predict_s(1, 64, 0) is None

    def test_speaks_of_one_precision(self) -> None:
        both = predictor((1, 0, 0.01))
        both.use(Precision.INT8)
        assert both.predict_s(1, 0, 0) == 99.0
