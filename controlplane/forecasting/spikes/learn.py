"""Learns the risk model of a site from its pools' own past: one model of all of them, thresholds for each. Slow; runs in a
process of its own (`trainer.py`), never in a tick."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlplane.forecasting.spikes import training
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.features import features
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.labels import label
from controlplane.forecasting.spikes.matching import judge, raise_warnings
from controlplane.forecasting.spikes.risk import SpikeRisk, probability
from controlplane.forecasting.spikes.thresholds import ANY_POOL, Scored, Setting, choose
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.forecasting.spikes.truth import Truth, truth_of
from controlplane.forecasting.training_task import MIN_SPIKES

# Features that look back a day: a tick has the last two hours.
_NOT_LIVE = ("_season_rise", "_vs_yesterday", "_season_max", "above_full_day")


@dataclass(frozen=True, slots=True)
class PoolPast:
    """What one pool went through: its windows, its SLO (seconds, of `ttft_p99_s`), and what its requests cost."""

    pool_id: str
    history: History
    slo_s: float
    costs: Costs


@dataclass(frozen=True, slots=True)
class Learned:
    """thresholds: pool id (or `ANY_POOL`) -> setting -> probability, None for no warnings. report: per pool and setting, out of
    fold."""

    model: SpikeRisk
    thresholds: dict[str, dict[str, float | None]]
    report: dict[str, Any]


def learn(pools: Sequence[PoolPast], *, seed: int = 0, say: Callable[[str], None] = lambda _: None) -> Learned | str:
    """The model, or in words why there is none yet."""
    truths = {pool.pool_id: truth_of(pool.history.ttft_p99_s, pool.slo_s, pool.history.step_s) for pool in pools}
    count = sum(len(truth.spikes) for truth in truths.values())
    if count < MIN_SPIKES:
        return f"{count} spikes were seen so far; a model is trained from {MIN_SPIKES} on"
    names = live_names(pools[0])
    services = [_service(pool, truths[pool.pool_id], names) for pool in pools]
    in_time = training.in_time(services, seed, say)
    members = training.grow([(service, np.ones(len(service), dtype=bool)) for service in services], seed)
    if members is None or not any(np.isfinite(scores).any() for scores in in_time.values()):
        return "the spikes are too few or too close together to leave some of them out"
    calibration = training.calibrate(services, in_time)
    scored = {
        pool.pool_id: Scored(
            probability(calibration[0] * in_time[pool.pool_id] + calibration[1]),
            truths[pool.pool_id],
            pool.history.step_s,
        )
        for pool in pools
    }
    thresholds = {pool_id: _thresholds(scored, pool_id) for pool_id in (*scored, ANY_POOL)}
    model = training.assemble(
        members, calibration, names=names, costs=pools[0].costs, thresholds=thresholds[ANY_POOL],
        trained_on={pool.pool_id: len(truths[pool.pool_id].spikes) for pool in pools},
    )  # fmt: skip
    return Learned(model, thresholds, _report(scored, thresholds))


def live_names(pool: PoolPast) -> tuple[str, ...]:
    """Features that a tick can have."""
    found = features(_first(pool.history, 2), pool.slo_s, pool.costs)
    return tuple(name for name in found if not name.endswith(_NOT_LIVE))


def _service(pool: PoolPast, truth: Truth, names: Sequence[str]) -> training.Service:
    found = features(pool.history, pool.slo_s, pool.costs)
    rows = np.column_stack([found[name] for name in names])
    labels = label(pool.history.ttft_p99_s, pool.slo_s, truth.onsets, pool.history.step_s)
    # A window that was not measured says nothing about what followed it.
    usable = ~truth.blocked & np.isfinite(pool.history.arrivals)
    return training.Service(pool.pool_id, rows, labels, usable, pool.history.step_s)


def _thresholds(scored: dict[str, Scored], pool_id: str) -> dict[str, float | None]:
    others = [each for key, each in scored.items() if key != pool_id]
    return {setting.value: choose(scored.get(pool_id), others, setting) for setting in Setting}


def _report(scored: dict[str, Scored], thresholds: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    """Precision and recall at the chosen thresholds on the scores they were chosen from: flattering, and said so."""
    found: dict[str, Any] = {}
    for pool_id, each in scored.items():
        found[pool_id] = {}
        for setting, threshold in thresholds[pool_id].items():
            if threshold is None:
                continue
            raised = raise_warnings(each.scores, threshold, each.truth.blocked, each.step_s)
            verdict = judge(raised, each.truth, 0, len(each.scores), each.step_s)
            found[pool_id][setting] = {
                "precision": _number(verdict.precision),
                "recall": _number(verdict.recall),
                "warnings": verdict.warnings,
                "spikes": verdict.spikes,
                "lead_s": _number(verdict.lead_s),
            }
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _first(past: History, count: int) -> History:
    def part(values: Floats) -> Floats:
        return values[:count]

    return History(
        past.step_s, part(past.arrivals), part(past.prompt_tokens), part(past.generated_tokens), part(past.dropped),
        part(past.replicas), part(past.desired), part(past.running), part(past.waiting), part(past.kv_usage),
        part(past.ttft_p50_s), part(past.ttft_p99_s),
    )  # fmt: skip
