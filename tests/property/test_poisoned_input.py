"""Poisoned telemetry never changes a setting: 500 cases against the real loop on a calm pool, each with a spoilt window or
series."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from controlplane.decisions.reasons import Outcome
from controlplane.telemetry.observation import FACTS, Observation, Quality, finite, missing
from controlplane.telemetry.plausibility import implausible
from inference_node.contract.settings import EngineSettings
from tests.support.closed_loop import ClosedLoop
from tests.support.simulated_pool import SimulatedPool

CASES, ALL_CASES = 4, 63  # of each kind: a slice, and the whole programme of 504
CALM_S = 120.0
SMALL = EngineSettings(max_batch_size=4, max_batched_tokens=512)
_TIMED = ("ttft_p50_s", "ttft_p95_s", "itl_p50_s", "itl_p95_s", "e2e_p95_s", "queue_p95_s")
_COUNTED = ("offered_rps", "requests", "running", "waiting")

Poison = Callable[[Observation, Random], Observation]


def spoilt(seen: Observation, values: dict[str, float | None]) -> Observation:
    """As the collector would hand it on: what is not finite or below zero is absent."""
    return replace(seen, **{name: finite(value) for name, value in values.items()})  # type: ignore[arg-type]


def not_a_number(seen: Observation, rng: Random) -> Observation:
    return spoilt(seen, {name: rng.choice([math.nan, math.inf, -math.inf]) for name in rng.sample(FACTS, 6)})


def negative(seen: Observation, rng: Random) -> Observation:
    return spoilt(seen, {name: -1.0 - rng.random() for name in rng.sample(_COUNTED + _TIMED, 3)})


def outlier_of_a_count(seen: Observation, rng: Random) -> Observation:
    name = rng.choice(_COUNTED)
    return replace(seen, **{name: 10 * (getattr(seen, name) or 0.0) + 400})  # type: ignore[arg-type]


def outlier_of_a_latency(seen: Observation, rng: Random) -> Observation:
    name = rng.choice(("ttft_p95_s", "itl_p95_s"))
    return replace(seen, **{name: 10 * (getattr(seen, name) or 0.1)})  # type: ignore[arg-type]


def counter_reset(seen: Observation, rng: Random) -> Observation:
    """A store that takes a reset for growth: the whole counter is the increase."""
    return replace(seen, offered_rps=(seen.offered_rps or 0.0) + rng.uniform(50, 5000))


def clock_set_back(seen: Observation, rng: Random) -> Observation:
    return replace(seen, window_end=seen.window_end - timedelta(seconds=rng.uniform(60, 6000)), offered_rps=300.0)


def mixed_up(seen: Observation, rng: Random) -> Observation:
    return replace(seen, ttft_p50_s=(seen.ttft_p95_s or 0.1) * 4, ttft_p95_s=20.0 * rng.random() + 2, kv_usage=1.2)


def duplicated(seen: Observation, rng: Random) -> Observation:
    """Gauges of a series that is there many times over, beside counters that are not."""
    times = rng.randint(20, 60)
    return replace(seen, running=(seen.running or 1) * times + 300, waiting=(seen.waiting or 1) * times + 300)


POISONS: tuple[Poison, ...] = (
    not_a_number,
    negative,
    outlier_of_a_count,
    outlier_of_a_latency,
    counter_reset,
    clock_set_back,
    mixed_up,
    duplicated,
)


class Guarded:
    """What the controller does with a window before anything looks at it."""

    def __init__(self, poison: Poison, rng: Random) -> None:
        self.poison, self.rng, self.armed = poison, rng, False
        self.before: list[Observation] = []
        self.reasons: list[str] = []

    def __call__(self, seen: Observation) -> Observation:
        at = seen.window_end
        if self.armed:
            seen = self.poison(seen, self.rng)
        reason = implausible(seen, self.before)
        if reason is not None:
            self.reasons.append(reason)
            return missing(at, seen.window_s)
        self.before.append(seen)
        return seen


def poisoned_run(poison: Poison, cases: int) -> Guarded:
    """Calm windows first; then, case by case, a poisoned one and two clean ones. Each decision holds and says why."""
    rng = Random(poison.__name__)
    guard = Guarded(poison, rng)
    loop = ClosedLoop(SimulatedPool(lambda at_s: 0.5, SMALL, seed=3), see=guard)
    loop.run(CALM_S)
    assert not guard.reasons, "calm windows are plausible"
    for _ in range(cases):
        guard.armed = True
        decision = loop.tick()
        guard.armed = False
        assert decision.outcome is not Outcome.APPLY
        assert decision.explanation
        loop.tick()
        loop.tick()
    assert not loop.applied()
    return guard


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_no_setting_changes_on_poisoned_windows(poison: Poison) -> None:
    poisoned_run(poison, CASES)


@pytest.mark.slow
@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_no_setting_changes_in_the_whole_programme(poison: Poison) -> None:
    poisoned_run(poison, ALL_CASES)


@pytest.mark.parametrize(
    "poison",
    [outlier_of_a_count, counter_reset, clock_set_back, mixed_up, duplicated],
    ids=lambda poison: poison.__name__,
)
def test_what_contradicts_itself_is_told_each_time(poison: Poison) -> None:
    assert len(poisoned_run(poison, 3).reasons) == 3


def test_a_real_surge_is_plausible() -> None:
    """What the guard lets pass is not only calm: a tenfold load, its queue and its latencies tell one story."""
    guard = Guarded(lambda seen, rng: seen, Random(0))
    loop = ClosedLoop(SimulatedPool(lambda at_s: 1.0 if at_s < 120 else 10.0, SMALL, seed=4), see=guard)
    loop.run(240)
    assert not guard.reasons
    assert any(seen.quality is Quality.OK and (seen.waiting or 0) > 5 for seen in loop.history)
