"""Where the pool stands: its performance model, the load to carry, and the projection under the settings in force."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from controlplane.decisions.admission import turns_queue
from controlplane.decisions.decision import DecisionInputs, StepTime, Workload
from controlplane.decisions.guardrails import ready_nodes
from controlplane.decisions.objective import Load, load_of, projection_of
from controlplane.decisions.performance import PoolModel, tails_of
from controlplane.decisions.voice import Alone, Look, Voice, alone_of, careful_of, voice_of
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.projection import Projection
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings, Precision

# A load that lasted over so many windows counts as a peak; a single window of few arrivals is chance.
_PEAK_WINDOWS = 3
_SHRINKS = 0.8
# A queue that lasted over so many windows tells the real capacity; beyond this factor it is something else than slow steps.
_QUEUE_WINDOWS, _SLOWEST = 4, 1.5
_SHORTEST_STEP_S = 1e-6  # below what any machine does: a fit to bad figures


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at a tick, as far as decisions need it.

    `load` and `projection` are of the voice that decisions go by. `unheard` is the forecast's look where it may advise only;
    `alone` a threat that only the forecast sees, whoever is gone by.
    """

    model: PoolModel
    load: Load
    projection: Projection
    steps: dict[Precision, StepTime]
    slo_broken: str | None
    recovering: bool
    known_windows: int
    voice: Voice | None = None
    unheard: Look | None = None
    alone: Alone | None = None

    @property
    def careful(self) -> Look:
        """What relaxing has to ask: nobody may see more than this. Of two voices the higher figures each."""
        own = Look(self.load, self.projection)
        return own if self.unheard is None else careful_of(own, self.unheard)

    @property
    def is_queueing(self) -> bool:
        """One request a node waits, on average: less is chance."""
        return self.load.waiting >= self.model.nodes

    def model_for(self, settings: EngineSettings, step_time_ratio: float) -> PoolModel | None:
        """The pool under other settings, or None when nothing is known of their precision."""
        step = self.steps.get(settings.precision)
        if step is None:
            return None
        return replace(self.model, settings=settings, step=step, step_time_ratio=step_time_ratio)

    def summary(self) -> dict[str, Any]:
        """What is recorded of it: the load, the capacity, and when which objective would break."""
        step = self.model.step
        return self._voices() | {
            "metric": "offered_rps",
            "model": self.load.forecast.model,
            "horizon_s": self.load.horizon_s,
            "likely_rps": round(self.load.likely_rps, 4),
            "planned_rps": round(self.load.planned_rps, 4),
            "capacity_rps": round(self.model.capacity_rps, 4),
            "waiting": self.load.waiting,
            "breach_in_s": self.projection.breach_in_s,
            "ttft_breach_probability": round(self.projection.ttft_breach_probability, 4),
            "itl_breach_probability": round(self.projection.itl_breach_probability, 4),
            "prompt_tokens": round(self.model.workload.prompt_tokens, 2),
            "generation_tokens": round(self.model.workload.generation_tokens, 2),
            "step": {
                "base_s": round(step.base_s, 6),
                "row_s": round(step.row_s, 6),
                "prefill_token_s": round(step.prefill_token_s, 8),
                "samples": step.samples,
                "error_ratio": round(step.error_ratio, 4),
            },
        }

    def _voices(self) -> dict[str, Any]:
        """Nothing under rules that knew one voice only."""
        if self.voice is None:
            return {}
        return {"voice": self.voice.value, "alone": None if self.alone is None else self.alone.to_json()}


def assess(inputs: DecisionInputs) -> Situation | str:
    """The situation, or in words what is missing for it."""
    steps = {step.precision: step for step in inputs.step_times}
    step = steps.get(inputs.settings.precision)
    if step is None:
        return (
            f"No step times are known for precision {inputs.settings.precision.value}: neither the nodes' own probe nor "
            "enough served windows tell what a larger batch would cost."
        )
    if step.at(1.0, 0.0) < _SHORTEST_STEP_S:
        return "The step times that were measured say that a token costs no time at all; nothing can be concluded from them."
    nodes = ready_nodes(inputs)
    if nodes == 0:
        return "No node is ready."
    workload = inputs.workload
    if workload is None:
        return "No request has finished yet, so it is not known how long prompts and answers are."
    forecast = inputs.forecasts.get("offered_rps")
    seen = inputs.observation
    if forecast is None or not forecast.points or seen is None or not seen.usable:
        return "The load of the newest windows is not known well enough to forecast it."
    model = _model(inputs, step, workload, nodes)
    if inputs.rules >= 2 and (factor := _slower_than_thought(inputs, model.capacity_rps)) > 1:
        steps = {precision: each.scaled(factor) for precision, each in steps.items()}
        model = _model(inputs, steps[inputs.settings.precision], workload, nodes)
    situation = Situation(
        model,
        *_look(inputs, model, seen, forecast),
        steps,
        slo_broken(inputs),
        _recovering(inputs),
        known_windows=sum(1 for seen in inputs.history if seen.usable and seen.offered_rps),
    )
    return situation if inputs.newest is None else _heard(inputs, situation, seen, inputs.newest)


def _look(inputs: DecisionInputs, model: PoolModel, seen: Observation, forecast: Forecast) -> tuple[Load, Projection]:
    peak = recent_peak_rps(inputs)
    load = load_of(forecast, seen.window_s, seen.waiting or 0.0, peak, max(peak, seen.offered_rps or 0.0))
    return load, projection_of(model, load, inputs.policy)


def _heard(inputs: DecisionInputs, situation: Situation, seen: Observation, newest: Forecast) -> Situation:
    """The situation, which is as the forecast sees it, as the voice sees it that decisions go by."""
    voice = voice_of(inputs)
    if voice is None or not newest.points:
        return situation
    foreseen = Look(situation.load, situation.projection)
    limit = inputs.policy.objective.breach_probability
    if voice is Voice.FORECAST and not foreseen.threatens(limit):
        return replace(situation, voice=voice)  # what the newest value would say of it changes nothing
    now = Look(*_look(inputs, situation.model, seen, newest))
    alone = alone_of(foreseen, now, limit, situation.model.capacity_rps)
    if voice is Voice.FORECAST:
        return replace(situation, voice=voice, alone=alone)
    unheard = foreseen if voice is Voice.ADVISES else None
    return replace(situation, load=now.load, projection=now.projection, voice=voice, unheard=unheard, alone=alone)


def _slower_than_thought(inputs: DecisionInputs, capacity_rps: float) -> float:
    """How much less than its modelled capacity a pool with a lasting queue gets done, as a factor on all step times; 1 at least.

    While requests wait, what is served is what can be served: the arrivals less what was refused and what the queue grew by.
    """
    seen = inputs.history[-_QUEUE_WINDOWS:]
    known = [
        (w.offered_rps - (refused_rps(w) if inputs.rules >= 4 else 0.0), w.waiting)
        for w in seen
        if w.usable and w.offered_rps is not None and w.waiting is not None
    ]
    nodes = ready_nodes(inputs)
    if len(known) < _QUEUE_WINDOWS or any(waiting < nodes for _, waiting in known):
        return 1.0
    span_s = (seen[-1].window_end - seen[0].window_end).total_seconds()
    if span_s <= 0:
        return 1.0
    offered = sum(rate for rate, _ in known[1:]) / (len(known) - 1)
    served = offered - (known[-1][1] - known[0][1]) / span_s
    return min(max(capacity_rps / max(served, 1e-6), 1.0), _SLOWEST)


def _model(inputs: DecisionInputs, step: StepTime, workload: Workload, nodes: int) -> PoolModel:
    turns = turns_queue(inputs)
    room = _kv_rows(inputs, workload) if turns else None
    plain = PoolModel(inputs.settings, step, workload, nodes, sees_prompts_queue=turns, kv_rows=room)
    return replace(plain, tails=tails_of(inputs.history, plain))


def _kv_rows(inputs: DecisionInputs, workload: Workload) -> float | None:
    """How many requests the keys and values of a node have room for, of the node that has least; None where no node tells.

    A request takes what its prompt and answer come to when it ends, or what those that run take now, if that is more: long ones
    stay longer, so that more of them are there at any moment than come.
    """
    known = [node.capabilities.kv_tokens for node in inputs.nodes if node.capabilities is not None]
    tokens = min((each for each in known if each > 0), default=None)
    if tokens is None:
        return None
    each, seen = workload.prompt_tokens + workload.generation_tokens, inputs.observation
    if seen is not None and seen.kv_usage and seen.running and seen.running >= ready_nodes(inputs):
        each = max(each, seen.kv_usage * tokens * ready_nodes(inputs) / seen.running)
    return tokens / each


def recent_peak_rps(inputs: DecisionInputs) -> float:
    """Highest load that lasted for some windows within the relaxing cooldown: a pool is kept fit for what just happened."""
    since = inputs.now - timedelta(seconds=inputs.policy.guardrails.cooldown_relaxing_s)
    rates = [w.offered_rps for w in inputs.history if w.window_end > since and w.offered_rps is not None]
    stretches = range(len(rates) - _PEAK_WINDOWS + 1)
    return max((sum(rates[i : i + _PEAK_WINDOWS]) / _PEAK_WINDOWS for i in stretches), default=0.0)


def slo_broken(inputs: DecisionInputs) -> str | None:
    """Which objective the newest window breaks, in words."""
    seen, slo = inputs.observation, inputs.policy.slo
    if seen is None or not seen.usable:
        return None
    if seen.ttft_p95_s is not None and seen.ttft_p95_s > slo.ttft_p95_s:
        return f"p95 TTFT is {seen.ttft_p95_s:.2f} s, over its objective of {slo.ttft_p95_s:g} s"
    if seen.itl_p95_s is not None and seen.itl_p95_s > slo.itl_p95_s:
        return f"p95 ITL is {1000 * seen.itl_p95_s:.0f} ms, over its objective of {1000 * slo.itl_p95_s:.0f} ms"
    refused = refused_rps(seen) / seen.offered_rps if seen.offered_rps else 0.0
    if inputs.rules >= 4 and refused > 1 - slo.attainment:
        return f"{refused:.0%} of the requests were refused, where {1 - slo.attainment:.0%} may miss their objectives"
    return None


def refused_rps(seen: Observation) -> float:
    return (seen.rejected or 0.0) / seen.window_s


def _recovering(inputs: DecisionInputs) -> bool:
    """Whether the queue is gone or clearly shrinking: latencies of those who waited in it still come in for a while."""
    waiting = [seen.waiting for seen in inputs.history[-_PEAK_WINDOWS:] if seen.waiting is not None]
    return len(waiting) >= 2 and (waiting[-1] == 0 < waiting[0] or waiting[-1] < _SHRINKS * waiting[0])
