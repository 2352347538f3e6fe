import numpy as np
import pytest

from controlplane.forecasting.spikes.matching import judge, raise_warnings
from controlplane.forecasting.spikes.truth import Truth

QUIET = np.zeros(400, dtype=bool)


def truth(*onsets: int, minor: tuple[int, ...] = (), windows: int = 400) -> Truth:
    return Truth(
        1.0, tuple((o, o + 8) for o in onsets), tuple((m, m + 3) for m in minor), np.zeros(windows, dtype=bool)
    )


def at(*windows: int) -> np.ndarray:
    return np.asarray(windows, dtype=np.int64)


class TestRaising:
    def test_after_a_warning_600_seconds_are_silent(self) -> None:
        raised = raise_warnings(np.ones(100), 0.5, np.zeros(100, dtype=bool))
        assert raised.tolist() == [0, 40, 80]

    def test_a_blocked_window_raises_none_and_starts_no_silence(self) -> None:
        blocked = np.zeros(50, dtype=bool)
        blocked[:10] = True
        assert raise_warnings(np.ones(50), 0.5, blocked).tolist() == [10]

    def test_a_score_that_is_not_a_number_raises_none(self) -> None:
        assert raise_warnings(np.full(50, np.nan), 0.5, np.zeros(50, dtype=bool)).tolist() == []


class TestJudging:
    @pytest.mark.parametrize(
        ("lead_windows", "right", "actionable"), [(0, 0, 0), (1, 1, 0), (3, 1, 0), (4, 1, 1), (40, 1, 1), (41, 0, 0)]
    )
    def test_right_from_15_to_600_seconds_and_actionable_from_60(
        self, lead_windows: int, right: int, actionable: int
    ) -> None:
        verdict = judge(at(200 - lead_windows), truth(200), 0, 400)
        assert (verdict.right, verdict.actionable) == (right, actionable)
        assert verdict.foreseen == actionable

    def test_before_a_minor_breach_a_warning_counts_neither_way(self) -> None:
        verdict = judge(at(90), truth(300, minor=(100,)), 0, 400)
        assert (verdict.neutral, verdict.false, verdict.right) == (1, 0, 0)
        assert np.isnan(verdict.precision)

    def test_the_lead_is_of_the_first_actionable_warning_of_a_spike(self) -> None:
        verdict = judge(at(165, 190), truth(200), 0, 400)
        assert verdict.leads_s == (525.0,)
        assert verdict.precision == 1.0
        assert verdict.recall == 1.0

    def test_only_spikes_and_warnings_of_the_scored_part_count(self) -> None:
        verdict = judge(at(90, 190), truth(100, 200), 150, 400)
        assert (verdict.warnings, verdict.spikes, verdict.foreseen) == (1, 1, 1)

    def test_f1_is_the_harmonic_mean_of_precision_and_recall(self) -> None:
        verdict = judge(at(50, 190), truth(200, 300), 0, 400)
        assert (verdict.precision, verdict.recall) == (0.5, 0.5)
        assert verdict.f1 == pytest.approx(0.5)

    def test_verdicts_add_up(self) -> None:
        whole = judge(at(90, 190), truth(100, 200), 0, 400)
        parts = judge(at(90, 190), truth(100, 200), 0, 150) + judge(at(90, 190), truth(100, 200), 150, 400)
        assert parts == whole
