"""Load against capacity, integrated by hand and by the projection."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.projection import Projection, lasting_q90, load_paths, project

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Server:
    """10 requests per second, 0.1 s without a queue, no waiting by chance."""

    capacity_rps: float = 10.0
    queue_limit: float = 100.0

    def base_ttft_p95_s(self, rate: float) -> float:
        return 0.1

    def wait_p95_s(self, rate: float, elapsed_s: float) -> float:
        return 0.0

    def itl_p95_s(self, rate: float) -> float:
        return 0.01 * rate


def load(*rates: float, spread: float = 0.0) -> Forecast:
    points = tuple(
        ForecastPoint(NOW + timedelta(seconds=5 * (i + 1)), max(0.0, r - spread), r, r + spread)
        for i, r in enumerate(rates)
    )
    return Forecast("offered_rps", NOW, 5.0, points, "test")


def run(forecast: Forecast, *, waiting: float = 0.0, slo: float = 1.0, error: float = 0.0) -> Projection:
    return project(
        forecast,
        Server(),
        waiting=waiting,
        window_s=5.0,
        ttft_slo_s=slo,
        itl_slo_s=1.0,
        capacity_error_ratio=error,
    )


class TestProject:
    def test_a_backlog_grows_by_what_exceeds_capacity(self) -> None:
        found = run(load(12, 12, 12))
        # 2 req/s too many for 5 s are 10 requests, a second of work.
        assert [p.q50 for p in found.ttft_p95_s.points] == pytest.approx([1.1, 2.1, 3.1])
        assert found.breach_probability == 1.0
        assert found.breach_in_s == 5.0

    def test_a_queue_is_worked_off_below_capacity(self) -> None:
        found = run(load(6, 6, 6), waiting=30)
        assert [p.q50 for p in found.ttft_p95_s.points] == pytest.approx([1.1, 0.1, 0.1])

    def test_no_breach_below_capacity(self) -> None:
        assert run(load(9, 9, 9)).breach_probability == 0.0

    def test_the_queue_ends_at_its_limit(self) -> None:
        assert run(load(*[50] * 10)).ttft_p95_s.points[-1].q50 == pytest.approx(0.1 + 100 / 10)

    def test_an_uncertain_load_breaches_on_a_share_of_paths(self) -> None:
        found = run(load(*[9.0] * 6, spread=4.0))
        assert 0.0 < found.breach_probability < 1.0

    def test_uncertain_capacity_widens_the_answer(self) -> None:
        assert run(load(9.5, 9.5, 9.5), error=0.2).breach_probability == pytest.approx(1 / 3)

    def test_a_full_engine_sets_the_gap_between_tokens(self) -> None:
        found = run(load(20, 20))
        assert found.itl_p95_s.points[0].q50 == pytest.approx(0.1)  # of capacity, not of the load that waits

    def test_a_long_horizon_is_cut_into_few_steps(self) -> None:
        found = run(load(*[5.0] * 720))
        assert len(found.ttft_p95_s.points) <= 60
        assert found.ttft_p95_s.points[-1].at == NOW + timedelta(hours=1)


class TestLoadPaths:
    def test_the_chance_of_counting_is_no_lasting_load(self) -> None:
        """At 4 req/s a window of 5 s counts 20 arrivals, give or take 4.5: a band of that width says nothing of what lasts."""
        chance = 1.2816 * (4.0 / 5.0) ** 0.5
        paths = list(load_paths(load(4.0, spread=chance).points, 5.0))
        assert all(path == pytest.approx([4.0], abs=0.02) for path in paths)

    def test_what_exceeds_chance_lasts(self) -> None:
        assert lasting_q90(load(4.0, spread=5.0).points[0], 5.0) > 8.5

    def test_paths_rise_from_low_to_high(self) -> None:
        firsts = [path[0] for path in load_paths(load(4.0, spread=5.0).points, 5.0)]
        assert firsts == sorted(firsts)
        assert firsts[0] < 4.0 < firsts[-1]
