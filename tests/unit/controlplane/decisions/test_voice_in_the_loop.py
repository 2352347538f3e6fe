"""The loop with a forecaster that lies and with one that knows: the gate costs nothing with the one and wins with the other."""

import math
from collections.abc import Callable
from datetime import timedelta

import pytest

from controlplane.decisions.decision import Decision
from controlplane.decisions.policy import ForecastUse, Policy
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from inference_node.contract.settings import EngineSettings
from tests.support.closed_loop import ClosedLoop
from tests.support.simulated_pool import START, SimulatedPool

SMALL = EngineSettings(max_batch_size=4, max_batched_tokens=512)
LASTS_S, PERIOD_S = 1200.0, 300.0
Tells = Callable[[SimulatedPool, Forecast], Forecast]


def waves(at_s: float) -> float:
    """Requests/s: up to more than what two nodes serve at a batch of four, every five minutes."""
    return 2.2 + 1.6 * math.sin(2 * math.pi * at_s / PERIOD_S - math.pi / 2)


def told(newest: Forecast, median: Callable[[float, float], float]) -> Forecast:
    """median: of the newest load and the seconds of the simulation at the moment that is foreseen."""
    points = []
    for point in newest.points:
        value = median(newest.points[0].q50, (point.at - START) / timedelta(seconds=1))
        points.append(ForecastPoint(point.at, 0.9 * value, value, 1.1 * value))
    return Forecast("offered_rps", newest.made_at, newest.step_s, tuple(points), "told")


def wolf(_: SimulatedPool, newest: Forecast) -> Forecast:
    return told(newest, lambda now, _at_s: 4 * now + 8)


def sleeper(_: SimulatedPool, newest: Forecast) -> Forecast:
    return told(newest, lambda _now, _at_s: 0.0)


def knows(_: SimulatedPool, newest: Forecast) -> Forecast:
    return told(newest, lambda _now, at_s: waves(at_s))


def run(tells: Tells, how: ForecastUse, seed: int, load: Callable[[float], float] = waves) -> ClosedLoop:
    policy = Policy.model_validate({"forecast": {"use": how}, "guardrails": {"cooldown_relaxing_s": 60}})
    loop = ClosedLoop(SimulatedPool(load, SMALL, seed=seed), policy, tells=tells)
    loop.run(LASTS_S)
    return loop


def attainment(loop: ClosedLoop) -> float:
    """Share of windows whose p95 time to first token kept its objective."""
    known = [window.ttft_p95_s for window in loop.history if window.ttft_p95_s is not None]
    return sum(ttft <= loop.policy.slo.ttft_p95_s for ttft in known) / len(known)


def moved_by_forecast(decisions: list[Decision]) -> list[Decision]:
    return [each for each in decisions if each.outcome is Outcome.APPLY and each.forecast["alone"] is not None]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("tells", [wolf, sleeper])
def test_a_liar_does_no_harm(tells: Tells, seed: int) -> None:
    earned, blind = run(tells, ForecastUse.EARNED, seed), run(tells, ForecastUse.OFF, seed)
    assert attainment(earned) >= attainment(blind) - 0.02
    assert not earned.record.merit.may_act
    assert moved_by_forecast(earned.decisions) == []


@pytest.mark.parametrize("seed", range(2))
def test_who_knows_is_followed_as_if_it_always_were(seed: int) -> None:
    earned, always = run(knows, ForecastUse.EARNED, seed), run(knows, ForecastUse.ALWAYS, seed)
    assert earned.record.merit.may_act
    assert attainment(earned) >= attainment(always) - 0.02


def test_who_cries_wolf_in_a_calm_pool_advises_and_changes_nothing() -> None:
    loop, blind = (run(wolf, how, 0, lambda _: 1.0) for how in (ForecastUse.EARNED, ForecastUse.OFF))
    assert [each.chosen for each in loop.applied()] == [each.chosen for each in blind.applied()]
    assert moved_by_forecast(loop.decisions) == []
    advised = [each for each in loop.decisions if each.reason is Reason.FORECAST_UNPROVEN]
    assert len(advised) > 100
    assert {each.outcome for each in advised} == {Outcome.ADVISE, Outcome.HOLD}
    assert loop.record.merit.threats_seen >= 10
    assert loop.record.merit.right == 0
    always = run(wolf, ForecastUse.ALWAYS, 0, lambda _: 1.0)
    assert moved_by_forecast(always.decisions)


def test_who_turns_liar_loses_the_right_and_from_then_on_the_newest_value_decides() -> None:
    turns_s = 700.0

    def turncoat(pool: SimulatedPool, newest: Forecast) -> Forecast:
        return knows(pool, newest) if pool.now_s < turns_s else wolf(pool, newest)

    loop = run(turncoat, ForecastUse.EARNED, 0)
    voices = [each.forecast.get("voice") for each in loop.decisions]
    turn = round(turns_s / loop.tick_s)
    assert voices[turn - 1] == "forecast"
    lost = voices.index("advises", turn)
    assert (lost - turn) * loop.tick_s <= 300
    assert set(voices[lost:]) == {"advises"}
    assert moved_by_forecast(loop.decisions[lost:]) == []
