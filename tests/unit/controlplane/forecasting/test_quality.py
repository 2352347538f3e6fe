from datetime import UTC, datetime, timedelta

import pytest

from controlplane.forecasting.quality import Foreseen, quality
from controlplane.telemetry.observation import Observation, Quality, missing

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 10.0


def at(step: int) -> datetime:
    return START + timedelta(seconds=STEP_S * step)


def seen(step: int, rps: float) -> Observation:
    return Observation(at(step), STEP_S, Quality.OK, offered_rps=rps)


def foreseen(step: int, middle: float, half: float = 1.0, steps: int = 6) -> Foreseen:
    return Foreseen(at(step), STEP_S, [{"q10": middle - half, "q50": middle, "q90": middle + half}] * steps)


RISING = [seen(step, float(step)) for step in range(20)]


class TestQuality:
    def test_a_forecast_that_sees_the_rise_beats_the_last_value(self) -> None:
        (found,) = quality([foreseen(step, step + 6.5) for step in range(10)], RISING, "offered_rps")
        assert (found.horizon_s, found.scored) == (60.0, 10)
        assert found.error == pytest.approx(0.5)
        assert found.last_value_error == pytest.approx(6.0)
        assert found.bias == pytest.approx(0.5)
        assert found.coverage_80 == 1.0

    def test_coverage_is_the_share_inside_the_band(self) -> None:
        forecasts = [foreseen(0, 6.0), foreseen(1, 7.0), foreseen(2, 8.0), foreseen(3, 20.0)]
        (found,) = quality(forecasts, RISING, "offered_rps")
        assert found.coverage_80 == 0.75

    def test_what_has_not_come_yet_is_not_scored(self) -> None:
        assert quality([foreseen(14, 20.0)], RISING, "offered_rps") == []

    def test_a_horizon_beyond_the_forecast_is_left_out(self) -> None:
        (found,) = quality([foreseen(0, 6.0)], RISING, "offered_rps", horizons_s=(60.0, 70.0))
        assert found.horizon_s == 60.0

    def test_a_window_that_was_not_measured_is_neither_right_nor_wrong(self) -> None:
        holed = [missing(past.window_end, STEP_S) if past.window_end == at(6) else past for past in RISING]
        (found,) = quality([foreseen(0, 6.0), foreseen(1, 7.0)], holed, "offered_rps")
        assert found.scored == 1

    def test_nothing_known_is_nothing_said(self) -> None:
        assert quality([], RISING, "offered_rps") == []
        assert quality([foreseen(0, 6.0)], [], "offered_rps") == []
