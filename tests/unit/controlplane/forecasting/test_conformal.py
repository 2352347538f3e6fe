"""Bands that learn from their misses."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.forecasting.conformal import AdaptiveBands, restored, stored
from controlplane.forecasting.forecaster import Forecast, ForecastPoint

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 15.0


def told(at: datetime, half: float, steps: int = 60) -> Forecast:
    """100 give or take `half`."""
    points = tuple(
        ForecastPoint(at + timedelta(seconds=STEP_S * (i + 1)), 100 - half, 100.0, 100 + half) for i in range(steps)
    )
    return Forecast("offered_rps", at, STEP_S, points, "last_value")


def followed(half: float, sd: float, count: int = 3000, seed: int = 1) -> tuple[AdaptiveBands, list[bool]]:
    """Truths scatter around the forecast with `sd`; whether each lay in the band told a minute before."""
    dice, bands, inside = random.Random(seed), AdaptiveBands(), []
    promised: dict[int, ForecastPoint] = {}
    for i in range(count):
        at, value = T0 + timedelta(seconds=STEP_S * i), dice.gauss(100.0, sd)
        bands.came(at, value, STEP_S / 2)
        if i in promised:
            inside.append(promised[i].q10 <= value <= promised[i].q90)
        promised[i + 4] = bands.widened(told(at, half)).points[3]
    return bands, inside


@pytest.mark.parametrize("half", [2.0, 12.8, 40.0])  # far too narrow, right, far too wide for 80 % of sd 10
def test_the_promised_share_is_covered_whatever_the_band_was(half: float) -> None:
    bands, inside = followed(half, sd=10.0)
    assert sum(inside[500:]) / len(inside[500:]) == pytest.approx(0.8, abs=0.03)
    assert bands.coverage()["60"] == pytest.approx(0.8, abs=0.08)


def test_they_follow_a_series_that_grows_wilder() -> None:
    dice, bands, inside = random.Random(2), AdaptiveBands(), []
    promised: dict[int, ForecastPoint] = {}
    for i in range(4000):
        at, value = T0 + timedelta(seconds=STEP_S * i), dice.gauss(100.0, 5.0 if i < 2000 else 15.0)
        bands.came(at, value, STEP_S / 2)
        if i in promised and i > 2300:
            inside.append(promised[i].q10 <= value <= promised[i].q90)
        promised[i + 4] = bands.widened(told(at, 6.4)).points[3]
    assert sum(inside) / len(inside) == pytest.approx(0.8, abs=0.04)


def test_what_was_not_measured_is_no_miss() -> None:
    bands = AdaptiveBands()
    bands.widened(told(T0, 5.0))
    before = stored(bands)
    for value in (None, float("nan"), float("inf")):
        bands.came(T0 + timedelta(seconds=60), value, STEP_S / 2)
    bands.came(T0 + timedelta(hours=2), 1e9, STEP_S / 2)  # an outage later: promises are old
    assert stored(bands) == before and not bands.open


def test_what_is_stored_goes_on_elsewhere_and_nothing_else_is_taken() -> None:
    bands, _ = followed(2.0, sd=10.0, count=400)
    again = restored(json.loads(json.dumps(stored(bands))))
    assert again.widened(told(T0, 2.0)).points == bands.widened(told(T0, 2.0)).points
    for bad in ([], [{"low": 1.0}], [{"nonsense": 0}] * 3):
        with pytest.raises((TypeError, ValueError)):
            restored(bad)


def test_quantiles_keep_their_order_and_stay_above_zero() -> None:
    bands, _ = followed(2.0, sd=80.0, count=600)
    for point in bands.widened(told(T0, 30.0)).points:
        assert 0.0 <= point.q10 <= point.q50 <= point.q90
