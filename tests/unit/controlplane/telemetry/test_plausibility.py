from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.telemetry.observation import Observation, Quality, missing
from controlplane.telemetry.plausibility import implausible

START = datetime(2026, 1, 1, tzinfo=UTC)


def calm(i: int) -> Observation:
    return Observation(
        window_end=START + timedelta(seconds=10 * i), window_s=10.0, quality=Quality.OK, offered_rps=4.0, requests=40.0,
        errors=0.0, rejected=0.0, running=8.0, waiting=0.0, kv_usage=0.3, ttft_p50_s=0.1, ttft_p95_s=0.2, itl_p50_s=0.02,
        itl_p95_s=0.04, e2e_p95_s=2.0, queue_p95_s=0.01, step_mean_s=0.02, nodes_up=2,
    )  # fmt: skip


BEFORE = [calm(i) for i in range(12)]
NOW = calm(12)


class TestPlausible:
    def test_a_calm_window_after_calm_ones(self) -> None:
        assert implausible(NOW, BEFORE) is None

    def test_the_first_window_of_all(self) -> None:
        assert implausible(NOW, []) is None

    def test_a_surge_whose_queue_and_latency_grow_with_it(self) -> None:
        surge = replace(
            NOW,
            offered_rps=40.0,
            requests=60.0,
            running=64.0,
            waiting=284.0,
            ttft_p95_s=6.0,
            queue_p95_s=5.8,
            e2e_p95_s=9.0,
        )
        assert implausible(surge, BEFORE) is None

    def test_the_end_of_a_surge(self) -> None:
        high = replace(NOW, running=64.0, waiting=200.0, requests=60.0, offered_rps=30.0)
        after = replace(calm(13), requests=120.0, running=64.0, waiting=116.0, offered_rps=3.0)
        assert implausible(after, [*BEFORE, high]) is None

    def test_requests_that_a_lost_node_took_with_it(self) -> None:
        busy = [replace(window, running=60.0) for window in BEFORE]
        assert implausible(replace(NOW, running=8.0, nodes_up=1), busy) is None

    def test_a_window_long_after_the_last_known_one(self) -> None:
        late = replace(NOW, window_end=NOW.window_end + timedelta(hours=1), running=200.0)
        assert implausible(late, [*BEFORE, missing(NOW.window_end, 10.0)]) is None


class TestImplausible:
    @pytest.mark.parametrize(
        ("spoilt", "why"),
        [
            ({"offered_rps": 400.0}, "contradict each other"),
            ({"requests": 4000.0}, "contradict each other"),
            ({"running": 500.0}, "contradict each other"),
            ({"ttft_p95_s": 4.0}, "ttft_p95_s is 4 s"),
            ({"itl_p95_s": 4.0}, "itl_p95_s is 4 s"),
            ({"ttft_p50_s": 0.9}, "is above ttft_p95_s"),
            ({"queue_p95_s": 60.0}, "of which it is a part"),
            ({"kv_usage": 3.0}, "more than all there is"),
        ],
    )
    def test_is_told_by_what_contradicts_it(self, spoilt: dict[str, float], why: str) -> None:
        found = implausible(replace(NOW, **spoilt), BEFORE)  # type: ignore[arg-type]
        assert found is not None
        assert why in found

    def test_a_window_before_one_that_is_known(self) -> None:
        assert "a clock was set back" in (implausible(calm(3), BEFORE) or "")

    def test_the_same_window_again_is_none(self) -> None:
        assert implausible(BEFORE[-1], BEFORE) is None
