"""What if: what the performance model behind the decisions expects of any settings under any load. Pure; changes nothing.

The settings in force under the load that is planned for come out exactly as `decide()` weighs them, and so does every candidate
of its. What decisions never look at (levels that nobody certified, lengths that were not seen) is answered as far as it is known,
and the answer says how far that is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.decisions.checks import Check, checks_of
from controlplane.decisions.decision import DecisionInputs, Predicted, Workload
from controlplane.decisions.node_fits import at_other_lengths
from controlplane.decisions.objective import Load, predict
from controlplane.decisions.optimizer import level_of
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.residuals import Spread, spreads_of
from controlplane.decisions.situation import Situation, assess
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepProfile

_CURVE_POINTS = 40
# The chart goes on a little past where the stronger of both sides is full.
_BEYOND_FULL = 1.15
_LEAST_ERROR, _MOST_ERROR = 0.05, 0.3  # as the fluid projection varies capacity


@dataclass(frozen=True, slots=True)
class Question:
    """Settings and load to look at; None: as it is. Rates in requests per second of the whole pool, lengths in tokens."""

    settings: EngineSettings
    offered_rps: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with what it may be off by: see `Outlook`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AtRate:
    rate: float
    ttft_p95_s: Estimate
    itl_p95_s: Estimate


@dataclass(frozen=True, slots=True)
class Outlook:
    """One side of the comparison.

    Latencies range over step times that are off by their error either way, and over what the model was off by in the newest
    windows (10 % to 90 % quantile), whichever is wider; throughput and memory over the step times alone. `quality_loss` is None
    where nobody measured it. `kv_share` is the share of a node's KV cache that its running requests hold.
    """

    settings: EngineSettings
    predicted: Predicted
    ttft_p95_s: Estimate
    itl_p95_s: Estimate
    throughput_tokens_per_s: Estimate
    capacity_rps: Estimate
    quality_loss: Estimate | None
    kv_share: Estimate | None
    weight_bytes: int | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    curve: tuple[AtRate, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """`then` is None where nothing is known of those settings' precision; `unknown` says so in words."""

    rate: float
    workload: Workload
    load: Load
    error_ratio: float
    residual_windows: int
    now: Outlook
    then: Outlook | None
    unknown: str | None


def what_if(inputs: DecisionInputs, profiles: Sequence[StepProfile], question: Question) -> Answer | str:
    """The answer, or in words why the model is not ready. profiles: the nodes' own, for lengths that were not seen."""
    seen = assess(inputs)
    if isinstance(seen, str):
        return seen
    asked = _with_lengths(inputs, profiles, question)
    situation = seen if asked is inputs else assess(asked)
    assert isinstance(situation, Situation), "lengths alone make no model unready"
    # The tails were learned under the lengths that were seen: they say how heavy this machine's are, not that load's.
    situation = replace(situation, model=_tailed(situation.model, seen.model))
    rate = situation.load.planned_rps if question.offered_rps is None else question.offered_rps
    spreads = spreads_of(inputs.history, seen.model)
    now, then = _model_for(asked, situation, inputs.settings), _model_for(asked, situation, question.settings)
    assert now is not None, "the settings in force are what the situation was assessed under"
    unknown = None
    if then is None:
        known = ", ".join(precision.value for precision in situation.steps)
        unknown = (
            f"No step times are known for precision {question.settings.precision.value}: no node of the pool has run it. "
            f"Known: {known}."
        )
    most = max(rate, *(side.model.capacity_rps for side in (now, then) if side is not None)) * _BEYOND_FULL
    rates = [most * (place + 1) / _CURVE_POINTS for place in range(_CURVE_POINTS)]
    view = _View(asked, situation, rate, rates, spreads)
    return Answer(
        rate=rate,
        workload=situation.model.workload,
        load=situation.load,
        error_ratio=_error(situation.model),
        residual_windows=spreads.windows,
        now=view.outlook(now),
        then=None if then is None else view.outlook(then),
        unknown=unknown,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    model: PoolModel
    loss: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _View:
    inputs: DecisionInputs
    situation: Situation
    rate: float
    rates: list[float]
    spreads: Spread

    def outlook(self, side: _Side) -> Outlook:
        model, load = side.model, self.situation.load
        fast, slow = _slowed(model, 1 - _error(model)), _slowed(model, 1 + _error(model))
        at, at_fast, at_slow = (predict(each, self.rate, load, side.loss or 0.0) for each in (model, fast, slow))
        throughput = (at.throughput_tokens_per_s, at_slow.throughput_tokens_per_s, at_fast.throughput_tokens_per_s)
        kv = tuple(_kv_share(self.inputs, each, self.rate) for each in (model, fast, slow))
        kv_share = None if None in kv else _around(*(share for share in kv if share is not None))
        return Outlook(
            settings=model.settings,
            predicted=at,
            ttft_p95_s=_wider(self.spreads.ttft, at.ttft_p95_s, at_fast.ttft_p95_s, at_slow.ttft_p95_s),
            itl_p95_s=_wider(self.spreads.itl, at.itl_p95_s, at_fast.itl_p95_s, at_slow.itl_p95_s),
            throughput_tokens_per_s=_around(*throughput),
            capacity_rps=_around(at.capacity_rps, at_slow.capacity_rps, at_fast.capacity_rps),
            quality_loss=_quality(self.inputs, model.settings, side.loss),
            kv_share=kv_share,
            weight_bytes=_weight_bytes(self.inputs, model.settings),
            checks=checks_of(self.inputs, model.settings, at, side.loss, None if kv_share is None else kv_share.value),
            notes=side.notes,
            curve=tuple(self._at(model, fast, slow, rate) for rate in self.rates),
        )

    def _at(self, model: PoolModel, fast: PoolModel, slow: PoolModel, rate: float) -> AtRate:
        load = self.situation.load
        at, low, high = (predict(each, rate, load, 0.0) for each in (model, fast, slow))
        return AtRate(
            rate,
            _wider(self.spreads.ttft, at.ttft_p95_s, low.ttft_p95_s, high.ttft_p95_s),
            _wider(self.spreads.itl, at.itl_p95_s, low.itl_p95_s, high.itl_p95_s),
        )


def _model_for(inputs: DecisionInputs, situation: Situation, settings: EngineSettings) -> _Side | None:
    """The pool under these settings as `decide()` would weigh them, None where no step times are known."""
    level = level_of(settings, inputs.settings, inputs.policy, inputs.nodes)
    model = situation.model_for(settings, level.step_time_ratio or 1.0)
    if model is None:
        return None
    notes = []
    if level.quality_loss_ratio is None:
        notes.append("Nobody measured the quality of this level; the controller would never propose it.")
    if level.step_time_ratio is None:
        notes.append("Nobody timed this pruning level: the latencies are those without its gain.")
    if settings.kv_precision is not inputs.settings.kv_precision:
        notes.append("The step times are those of the KV format in force.")
    return _Side(model, level.quality_loss_ratio, tuple(notes))


def _with_lengths(inputs: DecisionInputs, profiles: Sequence[StepProfile], question: Question) -> DecisionInputs:
    """The inputs as they would be if requests were as long as asked; the same object where nothing differs."""
    before = inputs.workload
    if before is None:
        return inputs
    asked = Workload(
        before.prompt_tokens if question.prompt_tokens is None else question.prompt_tokens,
        before.generation_tokens if question.generation_tokens is None else question.generation_tokens,
    )
    if asked == before:
        return inputs
    steps = at_other_lengths(inputs.step_times, profiles, inputs.settings, before, asked)
    return replace(inputs, workload=asked, step_times=steps)


def _tailed(model: PoolModel, seen: PoolModel) -> PoolModel:
    return replace(model, tails=seen.tails)


def _slowed(model: PoolModel, factor: float) -> PoolModel:
    return replace(model, step=model.step.scaled(factor))


def _error(model: PoolModel) -> float:
    return min(max(model.step.error_ratio, _LEAST_ERROR), _MOST_ERROR)


def _wider(spread: tuple[float, float] | None, value: float, one: float, other: float) -> Estimate:
    low, high = spread or (1.0, 1.0)
    return Estimate(value, min(value * low, one, other, value), max(value * high, one, other, value))


def _around(value: float, *others: float) -> Estimate:
    return Estimate(value, min(value, *others), max(value, *others))


def _kv_share(inputs: DecisionInputs, model: PoolModel, rate: float) -> float | None:
    """Of the smallest node's cache. A running request holds its prompt and half of its answer on average."""
    sizes = [node.capabilities.kv_tokens for node in inputs.nodes if node.capabilities is not None]
    if not sizes:
        return None
    held = model.running_rows(rate) * (model.workload.prompt_tokens + model.workload.generation_tokens / 2)
    return held / min(sizes)


def _quality(inputs: DecisionInputs, settings: EngineSettings, loss: float | None) -> Estimate | None:
    """The loss with its standard error both ways, where the nodes measured one."""
    if loss is None:
        return None
    errors = [
        record.perplexity_ratio_error
        for node in inputs.nodes
        if node.capabilities is not None and node.capabilities.quality is not None
        for record in node.capabilities.quality.records
        if record.level == (settings.precision, settings.kv_precision, settings.pruning_threshold)
    ]
    error = max(errors, default=0.0)
    return Estimate(loss, max(0.0, loss - error), loss + error)


def _weight_bytes(inputs: DecisionInputs, settings: EngineSettings) -> int | None:
    """Of the weights in memory on one node, where a node measured that level."""
    sizes = [
        record.weight_bytes
        for node in inputs.nodes
        if node.capabilities is not None and node.capabilities.quality is not None
        for record in node.capabilities.quality.records
        if record.precision is settings.precision
    ]
    return max(sizes, default=None)
