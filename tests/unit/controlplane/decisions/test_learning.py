"""The first windows after a start: a handful of requests is no ground for a change, a queue is."""

from datetime import UTC, datetime, timedelta

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs, NodeFacts, StepTime, Workload
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings, Precision

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOAD = 4.0  # far beyond what one node serves with a batch of 4


def after(windows: int, *, waiting: float = 0.0, itl_p95_s: float | None = None) -> DecisionInputs:
    history = tuple(
        Observation(
            NOW - timedelta(seconds=5 * age),
            5.0,
            Quality.OK,
            offered_rps=LOAD,
            waiting=waiting,
            running=1.0,
            itl_p95_s=itl_p95_s,
        )
        for age in range(windows - 1, -1, -1)
    )
    points = tuple(ForecastPoint(NOW + timedelta(seconds=5 * i), LOAD, LOAD, LOAD) for i in range(1, 7))
    return DecisionInputs(
        now=NOW,
        pool="main",
        policy=Policy(),
        policy_version=0,
        settings=EngineSettings(max_batch_size=4),
        nodes=(NodeFacts("n", "n", True),),
        observation=history[-1],
        history=history,
        forecasts={"offered_rps": Forecast("offered_rps", NOW, 5.0, points, "last_value")},
        step_times=(StepTime(Precision.BF16, 0.03, 0.003, 0.0008, 9, 0.05),),
        workload=Workload(40.0, 48.0),
    )


NEEDED = Policy().forecast.min_windows


def test_holds_on_a_projected_breach_until_enough_windows_are_known() -> None:
    decision = decide(after(NEEDED - 1))
    assert (decision.outcome, decision.reason) == (Outcome.HOLD, Reason.LEARNING)
    assert f"{NEEDED - 1} windows" in decision.explanation
    assert decide(after(NEEDED)).outcome is Outcome.APPLY


def test_holds_on_a_broken_objective_of_the_first_windows_too() -> None:
    assert decide(after(1, itl_p95_s=0.7)).reason is Reason.LEARNING


def test_a_queue_counts_from_the_first_window() -> None:
    assert decide(after(1, waiting=6.0)).outcome is Outcome.APPLY
