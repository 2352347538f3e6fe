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

_BY_CHANCE = 0.05
# A 95 % quantile beyond its objective by a tenth leaves two in three within it, by a half one in seven. Chosen, not measured.
_STEEPNESS = 4.0


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
    served = min(rate, model.capacity_rps)
    chance_s = model.wait_p95_s(rate, load.horizon_s)
    refused = None
    if model.sees_prompts_queue:
        limit = float(model.nodes * (model.settings.max_queue + model.rows_without_memory))
        waits_s = min(left / model.capacity_rps + chance_s, limit / model.capacity_rps)
        refused = _refused_ratio(
            left + chance_s * model.capacity_rps, left, limit, load.waiting + rate * load.horizon_s
        )
        ttft = model.base_ttft_p95_s(max(rate, model.capacity_rps) if refused else served) + waits_s
    else:
        backlog = min(left, model.queue_limit)
        ttft = model.base_ttft_p95_s(served) + backlog / model.capacity_rps + chance_s
    return Predicted(
        ttft_p95_s=_significant(ttft),
        itl_p95_s=_significant(model.itl_p95_s(served)),
        capacity_rps=_significant(model.capacity_rps),
        throughput_tokens_per_s=_significant(served * model.workload.generation_tokens),
        utilisation=_significant(rate / model.capacity_rps),
        quality_loss_ratio=quality_loss_ratio,
        refused_ratio=None if refused is None else _significant(refused),
    )


def _refused_ratio(p95: float, lasting: float, limit: float, offered: float) -> float:
    """Of `offered` requests those that find the queue full: what lasts beyond the limit, and where only chance goes beyond it,
    those few in a hundred that meet it.

    p95: how many wait, chance included, in the worst of twenty moments."""
    if p95 <= limit or offered <= 0:
        return 0.0
    return max((lasting - limit) / offered, _BY_CHANCE)


def violation(predicted: Predicted, policy: Policy) -> float:
    """By how much the SLO, tightened by the policy's margin, is missed: the sum of relative excesses, 0 when it is met.

    Where requests are refused so that others are in time, both are weighed as what they are, requests that miss: by the share
    that may.
    """
    margin = policy.objective.slo_margin
    ttft = max(0.0, predicted.ttft_p95_s / (margin * policy.slo.ttft_p95_s) - 1)
    itl = max(0.0, predicted.itl_p95_s / (margin * policy.slo.itl_p95_s) - 1)
    if predicted.refused_ratio is None:
        return ttft + itl
    kept = (1 - predicted.refused_ratio) * math.exp(-_STEEPNESS * (ttft + itl))
    return (1 - kept) / (1 - policy.slo.attainment) + ttft + itl


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
