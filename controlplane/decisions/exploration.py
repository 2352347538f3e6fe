"""Chooses what to try on one node, or says why nothing: a safe set in the manner of OnlineTune, over our model's own error. Pure.

Safe is what stays within the objectives at the planned load even where the model proves as wrong as two standard deviations
allow. Source: Zhang and others, "Towards Dynamic and Safe Configuration Tuning for Cloud Databases" (SIGMOD 2022). We depart in
what is modelled: not latency, but the ratio by which our model of it errs, so that what that knows of load and rows is kept.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from controlplane.decisions.canary_limits import would_be_taken_back
from controlplane.decisions.decision import DecisionInputs, Predicted
from controlplane.decisions.exploration_gates import Closed, Declined, open_situation
from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.explored import ModelErrors, Quantity, Tried, TryVerdict
from controlplane.decisions.guardrails import barred_settings, is_barred
from controlplane.decisions.objective import distance, predict
from controlplane.decisions.optimizer import Proposal, autonomy_of, propose
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.quality_budget import may_spend
from controlplane.decisions.situation import Situation
from inference_node.contract.settings import EngineSettings

_DEVIATIONS = 2.0
# What is less well known than a doubling of the batch is from nothing (0.158) is approached in steps. Without that, the greedy
# arm goes to the edge of what a wrong prior allows, and six of ten first tries did harm (docs/adr/0045).
_MOST_SD = 0.16
# Load over capacity that a tried node may come to, by what is likely and by what is just possible: beyond, queues grow steeply.
_FULL = 0.9
# What was tried under the same settings in force is known for a day; where it told nothing, it may be tried again after an hour.
_KNOWN_FOR, _UNCLEAR_FOR = timedelta(days=1), timedelta(hours=1)
_RECORDED = 8


@dataclass(frozen=True, slots=True)
class Option:
    """Settings that may be tried. *_high: what is just possible, two standard deviations above what is likely. gain: expected of
    capacity, as a share; sd: of the logarithm of the least known quantity; score: gain for the quality it costs."""

    settings: EngineSettings
    predicted: Predicted
    ttft_high_s: float
    itl_high_s: float
    utilisation_high: float
    gain: float
    sd: float
    score: float
    safe: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to try and why. now: what the settings in force come to at the same load; considered: the best options, `option` among
    them; options, safe: how many there were."""

    arm: ExplorationMode
    option: Option
    now: Predicted
    explanation: str
    considered: tuple[Option, ...]
    options: int
    safe: int

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _CHOSEN.dump_python(self, mode="json", exclude_none=True)
        return data


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that a choice rests on, for it to be made again."""

    inputs: DecisionInputs
    tried: tuple[Tried, ...]

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _ASKED.dump_python(self, mode="json", exclude_none=True)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Asked":
        return _ASKED.validate_python({**data, "inputs": {"observation": None} | data["inputs"]})


def choose(inputs: DecisionInputs, tried: Sequence[Tried]) -> Chosen | Declined:
    """tried: of this pool, the last month's. Equal arguments give the equal choice, the random arm's too."""
    situation = open_situation(inputs, tried)
    if isinstance(situation, Declined):
        return situation
    in_force, *others = propose(inputs.settings, inputs.policy, inputs.nodes)
    now = _predicted(inputs, situation, in_force)
    assert now is not None, "the situation was assessed with the step times of the settings in force"
    options = _options(inputs, situation, others, now, tried)
    if not options:
        return Declined(Closed.NOTHING_TO_TRY, "Every setting within reach was tried, or may not be.")
    safe = [option for option in options if option.safe]
    if not safe:
        return Declined(
            Closed.NOTHING_SAFE,
            f"None of {len(options)} settings within reach is sure enough to stay within the objectives.",
        )
    arm = inputs.policy.exploration.mode
    option = _at_random(safe, inputs) if arm is ExplorationMode.RANDOM else _most_promising(safe, inputs)
    best = sorted(options, key=lambda each: (not each.safe, -each.score, _key(each)))[:_RECORDED]
    considered = tuple(best if option in best else [*best, option])
    return Chosen(arm, option, now, _words(option, now, inputs, arm), considered, len(options), len(safe))


def _options(
    inputs: DecisionInputs,
    situation: Situation,
    proposals: Sequence[Proposal],
    now: Predicted,
    tried: Sequence[Tried],
) -> list[Option]:
    """In an order of their own, so that nothing hangs on the optimizer's."""
    errors, known, barred = ModelErrors(tried), _known(inputs, tried), barred_settings(inputs)
    # As far again as what did harm, or farther, is no risk that a posterior of a few windows can rule out.
    harmful = [each for each in _still_known(inputs, tried) if each.harmful]
    found = []
    for proposal in proposals:
        settings = proposal.settings
        if settings.content_hash() in known or is_barred(settings, barred, inputs) or not _may_try(inputs, proposal):
            continue
        if any(each.is_within(settings) for each in harmful):
            continue
        predicted = _predicted(inputs, situation, proposal)
        if predicted is None or predicted == now or would_be_taken_back(now, predicted, inputs.policy):
            continue
        found.append(_option(inputs, situation, settings, predicted, now, errors))
    return sorted(found, key=_key)


def _may_try(inputs: DecisionInputs, proposal: Proposal) -> bool:
    """Knobs that a person must be asked about are not tried without, nor answers that are worse than the policy allows."""
    if autonomy_of(inputs.settings, proposal.settings, inputs.policy) is not Autonomy.AUTO:
        return False
    loss = proposal.quality_loss_ratio
    return loss <= inputs.policy.quality.max_loss_ratio and may_spend(inputs, loss)


def _still_known(inputs: DecisionInputs, tried: Sequence[Tried]) -> list[Tried]:
    """What was tried under other settings in force has gone stale."""
    return [each for each in tried if each.base == inputs.settings and inputs.now - each.at < _KNOWN_FOR]


def _known(inputs: DecisionInputs, tried: Sequence[Tried]) -> frozenset[str]:
    """Hashes of what need not be tried again."""
    return frozenset(
        each.settings.content_hash()
        for each in _still_known(inputs, tried)
        if each.verdict is not TryVerdict.UNCLEAR or inputs.now - each.at < _UNCLEAR_FOR
    )


def _predicted(inputs: DecisionInputs, situation: Situation, proposal: Proposal) -> Predicted | None:
    model = situation.model_for(proposal.settings, proposal.step_time_ratio)
    load = situation.load
    return None if model is None else predict(model, load.planned_rps, load, proposal.quality_loss_ratio)


def _option(
    inputs: DecisionInputs,
    situation: Situation,
    settings: EngineSettings,
    predicted: Predicted,
    now: Predicted,
    errors: ModelErrors,
) -> Option:
    node_rps = situation.load.planned_rps / situation.model.nodes
    (ttft, ttft_sd), (itl, itl_sd), (step, step_sd) = (
        errors.at(quantity, settings, inputs.settings, node_rps) for quantity in Quantity
    )
    slo, quality = inputs.policy.slo, inputs.policy.quality
    ttft_high = _rounded(predicted.ttft_p95_s * math.exp(ttft + _DEVIATIONS * ttft_sd))
    itl_high = _rounded(predicted.itl_p95_s * math.exp(itl + _DEVIATIONS * itl_sd))
    full_high = _rounded(predicted.utilisation * math.exp(step + _DEVIATIONS * step_sd))
    sd = _rounded(max(ttft_sd, itl_sd, step_sd))
    within = ttft_high <= slo.ttft_p95_s and itl_high <= slo.itl_p95_s and full_high <= _FULL
    # A short queue makes those that are let in quick, and is no gain.
    within = within and (predicted.refused_ratio or 0.0) <= (now.refused_ratio or 0.0)
    gain = _rounded(predicted.capacity_rps * math.exp(-step) / now.capacity_rps - 1)
    # As much loss as the policy allows halves what a gain counts.
    price = 1 + predicted.quality_loss_ratio / max(quality.max_loss_ratio, 1e-9)
    return Option(
        settings=settings,
        predicted=predicted,
        ttft_high_s=ttft_high,
        itl_high_s=itl_high,
        utilisation_high=full_high,
        gain=gain,
        sd=sd,
        score=_rounded(gain / price),
        safe=within and sd <= _MOST_SD,
    )


def _most_promising(safe: Sequence[Option], inputs: DecisionInputs) -> Option:
    """The greatest gain for its price, of equals the smallest change; where none is a gain, what is known least."""

    def order(option: Option) -> tuple[float, float, str]:
        worth = option.score if gains else option.sd
        return -worth, distance(inputs.settings, option.settings), _key(option)

    gains = [option for option in safe if option.gain > inputs.policy.objective.min_gain]
    return min(gains or safe, key=order)


def _at_random(safe: Sequence[Option], inputs: DecisionInputs) -> Option:
    """Drawn evenly by pool and moment, so that a replay draws the same."""
    seed = hashlib.sha256(f"{inputs.pool} {inputs.now.isoformat()}".encode()).digest()
    return safe[int.from_bytes(seed, "big") % len(safe)]


def _key(option: Option) -> str:
    return option.settings.content_hash()


def _rounded(value: float) -> float:
    """As `objective` rounds: nothing hangs on the last bit of one machine's libm."""
    return float(f"{value:.6g}")


def _words(option: Option, now: Predicted, inputs: DecisionInputs, arm: ExplorationMode) -> str:
    changed = inputs.settings.changed(option.settings)
    knobs = ", ".join(f"{knob} {old} → {new}" for knob, (old, new) in changed.items())
    why = "drawn from what is safe" if arm is ExplorationMode.RANDOM else "the greatest gain for its price"
    if arm is ExplorationMode.MODEL and option.gain <= inputs.policy.objective.min_gain:
        why = "nothing promises a gain, and this is known least"
    then, ms = option.predicted, 1000
    return (
        f"Tries {knobs} on one node, {why}: capacity {option.gain:+.0%} (± {option.sd:.0%}), "
        f"p95 TTFT {then.ttft_p95_s:.2f} s (at most {option.ttft_high_s:.2f} s) instead of {now.ttft_p95_s:.2f} s, "
        f"p95 ITL {ms * then.itl_p95_s:.0f} ms (at most {ms * option.itl_high_s:.0f} ms) instead of {ms * now.itl_p95_s:.0f} ms."
    )


_CHOSEN: TypeAdapter[Chosen] = TypeAdapter(Chosen)
_ASKED: TypeAdapter[Asked] = TypeAdapter(Asked)
