"""What a try showed: the node against its peers, before and while, and against what the model had predicted. Pure.

Difference in differences of paired windows, as canaries are judged: neither the load that all share nor what makes one node
slower than another counts. Capacity itself is not measured, since the pool is calm: the step time against the model's is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from pydantic import TypeAdapter

from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.explored import LogError, Quantity, TryVerdict
from controlplane.decisions.objective import predict
from controlplane.decisions.optimizer import level_of
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Policy
from controlplane.decisions.situation import Situation, assess
from controlplane.rollouts.analysis import ALPHA_COUNTS, Measurement, Verdict
from controlplane.rollouts.exploration_windows import Beside, Counts, Stretches, mean_log
from controlplane.rollouts.statistics import Estimate, difference, fisher_greater, hodges_lehmann
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings

CONFIDENCE = 0.95  # one look, at the end; needs six windows on each side
_TO_SD = 1.96
# An error is never known better than this: the load of the next hour is another. Of what has no interval, each window is taken
# to be off by so much. Chosen, not measured.
_LEAST_SD, _WINDOW_SD = 0.03, 0.3
_LATENCIES = (("ttft_p95_s", Quantity.TTFT), ("itl_p95_s", Quantity.ITL))
_STEP, _THROUGHPUT = "step_mean_s", "generation_tokens_per_s"
_NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True)
class Shown:
    """One metric. tried, peers: levels while it was tried, geometric means; ratio: by how much the try changed the node, with its
    interval where there were windows enough; expected_ratio: the model's, at the load that came."""

    metric: str
    windows: int
    windows_before: int
    tried: float | None = None
    peers: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    expected_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class TryOutcome:
    """The verdict with what it rests on. errors: the model's, for the next choice; node_rps: what the node was offered; answers:
    what was found of their distance from full precision, in words; harmful: it had to be ended for what the node did."""

    verdict: TryVerdict
    explanation: str
    shown: tuple[Shown, ...] = ()
    errors: tuple[LogError, ...] = ()
    node_rps: float = 0.0
    counts: Counts = _NO_COUNTS
    answers: tuple[str, ...] = ()
    harmful: bool = False

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _OUTCOME.dump_python(self, mode="json", exclude_none=True)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TryOutcome":
        return _OUTCOME.validate_python(data)


def measure(
    inputs: DecisionInputs,
    tried: EngineSettings,
    seen: Stretches,
    unfit: str | None = None,
    answers: Sequence[Measurement] = (),
    *,
    is_early: bool = False,
) -> TryOutcome:
    """inputs: what the try was chosen from. unfit: why it was ended as harmful, which makes the verdict. answers: as of
    canaries. is_early: it was ended before its lease, and its windows may tell that it was the cause."""
    models = _Models.of(inputs, tried)
    shown: list[Shown] = []
    errors: list[LogError] = []
    for metric, quantity in _LATENCIES:
        change = _change(_logs(metric, seen.before), _logs(metric, seen.during))
        expected = None if models is None or change is None else models.expected_ratio(quantity, seen)
        shown.append(_shown(metric, seen, change, expected))
        if change is not None and expected is not None:
            errors.append(change.error(quantity, less=math.log(expected)))
    off = None if models is None else models.step_change(seen)
    change = _change(_logs(_STEP, seen.before), _logs(_STEP, seen.during))
    known = change is not None and off is not None
    shown.append(_shown(_STEP, seen, change, math.exp(change.value - off.value) if known and change and off else None))
    shown.append(_shown(_THROUGHPUT, seen, _change(_logs(_THROUGHPUT, seen.before), _logs(_THROUGHPUT, seen.during))))
    errors += [] if off is None else [off.error(Quantity.STEP)]
    unfit = unfit or next((each.detail for each in answers if each.verdict is Verdict.FAIL), None)
    if unfit is None and is_early:
        unfit = next((words for each in seen.touched if (words := _alone(each, inputs.policy)) is not None), None)
    verdict, words = _verdict(shown, seen.counts, inputs.policy, unfit)
    return TryOutcome(
        verdict, words, tuple(shown), tuple(errors), _rounded(seen.rates()[0]), seen.counts,
        tuple(each.detail for each in answers), harmful=unfit is not None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Change:
    """Of a logarithm, from before to while. interval: None with too few windows, when value is the medians' difference."""

    value: float
    interval: Estimate | None
    windows: int

    def error(self, quantity: Quantity, less: float = 0.0) -> LogError:
        sd = _WINDOW_SD / math.sqrt(self.windows)
        if self.interval is not None:
            sd = max((self.interval.high - self.interval.low) / 2 / _TO_SD, _LEAST_SD)
        return LogError(quantity, _rounded(self.value - less), _rounded(sd))


def _change(before: Sequence[float], during: Sequence[float]) -> _Change | None:
    """None without a window on either side: nodes differ, so that one alone says nothing."""
    if not before or not during:
        return None
    first, then = hodges_lehmann(before, CONFIDENCE), hodges_lehmann(during, CONFIDENCE)
    if first is None or then is None:
        return _Change(median(during) - median(before), None, len(during))
    interval = difference(then, first)
    return _Change(interval.value, interval, len(during))


@dataclass(frozen=True, slots=True)
class _Models:
    """The pool's model under the settings in force and under the tried ones."""

    situation: Situation
    tried: PoolModel

    @classmethod
    def of(cls, inputs: DecisionInputs, tried: EngineSettings) -> "_Models | None":
        situation = assess(inputs)
        if isinstance(situation, str):
            return None
        level = level_of(tried, inputs.settings, inputs.policy, inputs.nodes)
        model = situation.model_for(tried, level.step_time_ratio or 1.0)
        return None if model is None else cls(situation, model)

    def expected_ratio(self, quantity: Quantity, seen: Stretches) -> float:
        """Of a latency, at the load that came to the node and to its peers."""
        (mine, theirs), base = seen.rates(), self.situation.model
        then = predict(self.tried, mine * base.nodes, self.situation.load, 0.0)
        now = predict(base, theirs * base.nodes, self.situation.load, 0.0)
        return float(getattr(then, quantity.value) / getattr(now, quantity.value))

    def step_change(self, seen: Stretches) -> _Change | None:
        """By how much longer steps took than the model says of just their rows and prompt tokens, less the same before."""
        base = self.situation.model
        before = [_step_error(each, base, base) for each in seen.before]
        during = [_step_error(each, self.tried, base) for each in seen.during]
        return _change([e for e in before if e is not None], [e for e in during if e is not None])


def _step_error(seen: Beside, mine: PoolModel, theirs: PoolModel) -> float | None:
    own, others = _of_step(seen.node, mine), [_of_step(peer, theirs) for peer in seen.peers]
    known = [each for each in others if each is not None]
    return None if own is None or not known else own - fmean(known)


def _of_step(seen: Observation, model: PoolModel) -> float | None:
    """log(measured / modelled) of the mean step."""
    if not seen.step_mean_s or seen.decode_rows_mean is None or seen.prefill_tokens_mean is None:
        return None
    modelled = model.step.at(seen.decode_rows_mean, seen.prefill_tokens_mean) * model.step_time_ratio
    return math.log(seen.step_mean_s / modelled) if modelled > 0 else None


def _logs(metric: str, stretch: Sequence[Beside]) -> list[float]:
    return [ratio for each in stretch if (ratio := each.log_ratio(metric)) is not None]


def _shown(metric: str, seen: Stretches, change: _Change | None, expected: float | None = None) -> Shown:
    windows, before = len(_logs(metric, seen.during)), len(_logs(metric, seen.before))
    tried, peers = (None if level is None else _rounded(level) for level in seen.levels(metric))
    if change is None:
        return Shown(metric, windows, before, tried, peers)
    interval = change.interval
    return Shown(
        metric, windows, before, tried, peers,
        ratio=_rounded(math.exp(change.value)),
        low=None if interval is None else _rounded(math.exp(interval.low)),
        high=None if interval is None else _rounded(math.exp(interval.high)),
        expected_ratio=None if expected is None else _rounded(expected),
    )  # fmt: skip


def _verdict(shown: Sequence[Shown], counts: Counts, policy: Policy, unfit: str | None) -> tuple[TryVerdict, str]:
    if unfit is not None:
        return TryVerdict.WORSE, unfit
    failing = _failing(counts, policy)
    if failing is not None:
        return TryVerdict.WORSE, failing
    least = max(1, policy.rollout.min_requests)
    if min(counts.requests, counts.requests_peers) < least:
        return (
            TryVerdict.UNCLEAR,
            f"the node served {counts.requests} requests and its peers {counts.requests_peers}; a verdict needs {least}",
        )
    names = [name for name, _ in _LATENCIES]
    known = [(s.metric, s.low, s.high) for s in shown if s.metric in names and s.low is not None and s.high is not None]
    if len(known) < len(names):
        return TryVerdict.UNCLEAR, "there were too few windows for an interval"
    words = ", ".join(f"{name} {low - 1:+.0%} to {high - 1:+.0%}" for name, low, high in known)
    return _by_intervals([(low, high) for _, low, high in known], 1 + policy.rollout.margin), words


def _alone(seen: Beside, policy: Policy) -> str | None:
    """Whether the node broke an objective that its peers kept, in words: what troubled the pool was the try then."""
    for metric, _ in _LATENCIES:
        limit = getattr(policy.slo, metric)
        mine, theirs = getattr(seen.node, metric), mean_log([getattr(peer, metric) for peer in seen.peers])
        if mine is not None and theirs is not None and mine > limit >= math.exp(theirs):
            words = f"{metric} of the node was {mine:.3g} s, over its objective of {limit:g} s"
            return f"{words}, and its peers' {math.exp(theirs):.3g} s"
    return None


def _by_intervals(known: Sequence[tuple[float, float]], margin: float) -> TryVerdict:
    """Worse: one latency is, by more than the margin, for sure. Better: one is for sure, and none may be worse by the margin."""
    if any(low > margin for low, _ in known):
        return TryVerdict.WORSE
    if all(high < margin for _, high in known):
        if any(high < 1 for _, high in known):
            return TryVerdict.BETTER
        if all(low > 1 / margin for low, _ in known):
            return TryVerdict.SAME
    return TryVerdict.UNCLEAR


def _failing(counts: Counts, policy: Policy) -> str | None:
    """More errors than the objective allows, and for sure more than the peers have."""
    if not counts.failed or counts.failed / counts.requests <= policy.slo.error_rate:
        return None
    p_value = fisher_greater(counts.failed, counts.requests, counts.failed_peers, counts.requests_peers)
    if p_value >= ALPHA_COUNTS:
        return None
    return (
        f"{counts.failed} of {counts.requests} requests failed, and {counts.failed_peers} of {counts.requests_peers} of its "
        f"peers' (p {p_value:.3g})"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


_OUTCOME: TypeAdapter[TryOutcome] = TypeAdapter(TryOutcome)
