"""What settings are worth under the load to come: predicted latencies, how far they miss the SLO, and the size of the change."""

import math
from dataclasses import dataclass

from controlplane.decisions.decision import Predicted
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Policy
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.planning import likely_rps, planned_rps
from controlplane.forecasting.projection import Projection, project
from inference_node.contract.settings import KNOBS, EngineSettings, KnobValue


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool must carry over the horizon. Rates are requests per second: what is likely, and what it may well come to."""

    forecast: Forecast
    window_s: float
    waiting: float
    likely_rps: float
    planned_rps: float

    @property
    def horizon_s(self) -> float:
        return len(self.forecast.points) * self.forecast.step_s


def load_of(forecast: Forecast, window_s: float, waiting: float, recent_peak_rps: float, highest_rps: float) -> Load:
    """planned_rps covers what the forecast asks for (`planning.planned_rps`), and what was really offered lately."""
    planned = max(planned_rps(forecast, window_s, highest_rps), recent_peak_rps)
    return Load(forecast, window_s, waiting, likely_rps(forecast), planned)


def projection_of(model: PoolModel, load: Load, policy: Policy) -> Projection:
    """The fluid projection under `model`. Capacity is varied by what the step times were off by, 5 to 30 %."""
    return project(
        load.forecast,
        model,
        waiting=load.waiting,
        window_s=load.window_s,
        ttft_slo_s=policy.slo.ttft_p95_s,
        itl_slo_s=policy.slo.itl_p95_s,
        capacity_error_ratio=min(max(model.step.error_ratio, 0.05), 0.3),
    )


def predict(model: PoolModel, rate: float, load: Load, quality_loss_ratio: float) -> Predicted:
    """At `rate` held over the horizon, once the present queue is worked off as far as it can be by then.

    Without breach probability, which is dear and wanted for few: see `projection_of`.
    """
    left = max(0.0, load.waiting + (rate - model.capacity_rps) * load.horizon_s)
    backlog = min(left, model.queue_limit)
    served = min(rate, model.capacity_rps)
    ttft = model.base_ttft_p95_s(served) + backlog / model.capacity_rps + model.wait_p95_s(rate, load.horizon_s)
    return Predicted(
        ttft_p95_s=_significant(ttft),
        itl_p95_s=_significant(model.itl_p95_s(served)),
        capacity_rps=_significant(model.capacity_rps),
        throughput_tokens_per_s=_significant(served * model.workload.generation_tokens),
        utilisation=_significant(rate / model.capacity_rps),
        quality_loss_ratio=quality_loss_ratio,
    )


def violation(predicted: Predicted, policy: Policy) -> float:
    """By how much the SLO, tightened by the policy's margin, is missed: the sum of relative excesses, 0 when it is met."""
    margin = policy.objective.slo_margin
    ttft = predicted.ttft_p95_s / (margin * policy.slo.ttft_p95_s) - 1
    itl = predicted.itl_p95_s / (margin * policy.slo.itl_p95_s) - 1
    return max(0.0, ttft) + max(0.0, itl)


def distance(current: EngineSettings, other: EngineSettings) -> float:
    """Size of a change: per numeric knob the logarithm of its ratio, per choice 1."""
    return sum(_step(name, here, there) for name, (here, there) in current.changed(other).items())


def _step(name: str, here: KnobValue, there: KnobValue) -> float:
    if KNOBS[name].kind not in {"int", "float"}:
        return 1.0
    offset = 1.0 if KNOBS[name].minimum == 0 else 0.0
    return abs(math.log((float(there) + offset) / (float(here) + offset)))


def _significant(value: float) -> float:
    """Six significant digits: what is recorded and compared does not hang on the last bit of one machine's libm."""
    return float(f"{value:.6g}")
