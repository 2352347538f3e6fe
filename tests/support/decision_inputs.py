"""Inputs of `decide()` for a pool of one node with a batch of 4: calm at 0.3 requests/s, threatened at 4."""

from datetime import datetime, timedelta

from controlplane.decisions.decision import DecisionInputs, NodeFacts, StepTime, Workload
from controlplane.decisions.policy import Policy
from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.settings import EngineSettings, Precision

ENOUGH_WINDOWS = Policy().forecast.min_windows
CALM_RPS, THREAT_RPS = 0.3, 4.0


def decision_inputs(
    at: datetime,
    load: float = CALM_RPS,
    *,
    windows: int = ENOUGH_WINDOWS,
    waiting: float = 0.0,
    itl_p95_s: float | None = None,
) -> DecisionInputs:
    """`windows` equal windows of 5 s that end `at`, and a forecast that the load stays as it is."""
    history = tuple(
        Observation(
            at - timedelta(seconds=5 * age),
            5.0,
            Quality.OK,
            offered_rps=load,
            waiting=waiting,
            running=1.0,
            itl_p95_s=itl_p95_s,
        )
        for age in range(windows - 1, -1, -1)
    )
    points = tuple(ForecastPoint(at + timedelta(seconds=5 * i), load, load, load) for i in range(1, 7))
    return DecisionInputs(
        now=at,
        pool="main",
        policy=Policy(),
        policy_version=0,
        settings=EngineSettings(max_batch_size=4),
        nodes=(NodeFacts("n", "n", True),),
        observation=history[-1],
        history=history,
        forecasts={"offered_rps": Forecast("offered_rps", at, 5.0, points, "last_value")},
        step_times=(StepTime(Precision.BF16, 0.03, 0.003, 0.0008, 9, 0.05),),
        workload=Workload(40.0, 48.0),
    )
