"""What came of a decision, against what the recorded model expects at the load that came."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.effect import effect_of
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings
from tests.support.decision_inputs import THREAT_RPS, decision_inputs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INPUTS = decision_inputs(NOW, THREAT_RPS)


def _chosen() -> EngineSettings:
    chosen = decide(INPUTS).chosen
    assert chosen is not None
    return chosen


CHOSEN = _chosen()


def windows(seconds: float, *, start: datetime = NOW, **facts: float) -> list[Observation]:
    known = {"offered_rps": 4.0, "ttft_p95_s": 0.5, "itl_p95_s": 0.05, "generation_tokens_per_s": 190.0} | facts
    return [
        Observation(start + timedelta(seconds=at), 5.0, Quality.OK, **known)  # type: ignore[arg-type]  # facts by name
        for at in range(5, int(seconds) + 1, 5)
    ]


def effect(seen: list[Observation], until_s: float, chosen: EngineSettings = CHOSEN) -> list[tuple[float, bool, int]]:
    found = effect_of(INPUTS, chosen, seen, NOW, NOW + timedelta(seconds=until_s))
    return [(stretch.after_s, stretch.complete, stretch.windows) for stretch in found]


def test_three_stretches_once_an_hour_has_passed() -> None:
    assert effect(windows(3600), 3600) == [(300.0, True, 60), (900.0, True, 180), (3600.0, True, 720)]


def test_one_that_runs_is_the_last() -> None:
    assert effect(windows(400), 400) == [(300.0, True, 60), (900.0, False, 80)]


def test_too_few_windows_say_nothing() -> None:
    assert effect(windows(10), 10) == []


def test_windows_that_reach_back_before_the_change_or_past_the_next_do_not_count() -> None:
    before = windows(60, start=NOW - timedelta(seconds=30))
    assert effect(before, 20) == [(300.0, False, 4)]


def test_expects_of_each_side_what_the_model_says_at_the_load_that_came() -> None:
    (stretch,) = effect_of(INPUTS, CHOSEN, windows(60), NOW, NOW + timedelta(seconds=60))
    ttft = next(came for came in stretch.came if came.metric == "ttft_p95_s")
    assert ttft.expected < ttft.without
    assert ttft.realised == 0.5
    assert stretch.offered_rps == pytest.approx(4.0)
    (calm,) = effect_of(INPUTS, CHOSEN, windows(60, offered_rps=0.5), NOW, NOW + timedelta(seconds=60))
    assert next(came for came in calm.came if came.metric == "ttft_p95_s").without < ttft.without


def test_what_was_not_measured_is_not_zero() -> None:
    seen = [replace(window, ttft_p95_s=None) for window in windows(60)]
    (stretch,) = effect_of(INPUTS, CHOSEN, seen, NOW, NOW + timedelta(seconds=60))
    assert next(came for came in stretch.came if came.metric == "ttft_p95_s").realised is None
