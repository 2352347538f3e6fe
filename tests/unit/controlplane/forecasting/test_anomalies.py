"""A series that leaves its usual range is noticed soon; one that does not, seldom."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.forecasting.anomalies import Anomaly, AnomalyWatch, Direction
from controlplane.telemetry.observation import Observation, Quality, missing

T0 = datetime(2026, 11, 29, tzinfo=UTC)


def fed(value: Callable[[int, random.Random], float | None], count: int, seed: int = 1) -> list[tuple[int, Anomaly]]:
    dice, watch, found = random.Random(seed), AnomalyWatch(15.0), []
    for i in range(count):
        seen = Observation(T0 + timedelta(seconds=15 * i), 15.0, Quality.OK, ttft_p95_s=value(i, dice))
        if (anomaly := watch.feed(seen)) is not None:
            found.append((i, anomaly))
    return found


def test_a_shift_of_latency_is_noticed_within_minutes() -> None:
    found = fed(lambda i, dice: 0.3 * (2.0 if i >= 400 else 1.0) * dice.lognormvariate(0, 0.2), 460)
    assert len(found) == 1
    at, anomaly = found[0]
    assert 400 < at <= 420 and anomaly.direction is Direction.UP and anomaly.metric == "ttft_p95_s"
    assert anomaly.usual == pytest.approx(0.3, rel=0.4)


def test_a_single_outlier_is_none_however_large() -> None:
    assert fed(lambda i, dice: 1e9 if i % 100 == 99 else 0.3 * dice.lognormvariate(0, 0.2), 1000) == []


def test_noise_alone_is_seldom_one() -> None:
    days = sum(len(fed(lambda i, dice: 0.3 * dice.lognormvariate(0, 0.4), 5760, seed)) for seed in range(5))
    assert days <= 5  # at most one a day


def test_latency_that_falls_is_good_news() -> None:
    assert fed(lambda i, dice: 0.3 * (0.2 if i >= 400 else 1.0) * dice.lognormvariate(0, 0.2), 500) == []


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -1.0])
def test_what_is_no_measurement_is_passed_over(bad: float | None) -> None:
    assert fed(lambda i, dice: bad if i > 300 else 0.3 * dice.lognormvariate(0, 0.2), 600) == []


def test_windows_that_were_not_seen_are_passed_over() -> None:
    watch = AnomalyWatch(15.0)
    assert all(watch.feed(missing(T0 + timedelta(seconds=15 * i), 15.0)) is None for i in range(200))
