"""Replays each case under each policy and scores what clients got."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from controlplane.bench.replay.case import Case, Options, limit_rows
from controlplane.bench.replay.node import Request
from controlplane.bench.replay.policies import (
    Random,
    Reactive,
    ReplayPolicy,
    SeedAdaptive,
    Static,
    Trimtab,
    grid,
)
from controlplane.bench.replay.pool import SimulatedPool
from controlplane.bench.replay.step_table import Levels, level_of
from controlplane.decisions.policy import Autonomy, ForecastUse
from controlplane.forecasting.merit import Merit
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings

POLICIES = (
    "static-default",
    "static-best",
    "static-fastest",
    "seed-adaptive",
    "reactive",
    "random",
    "trimtab",
    "trimtab-blind",
    "trimtab-always",
    "trimtab-lossless",
    "oracle",
)
# What the controller's policy says of forecasts.
_USE = {
    "trimtab": ForecastUse.EARNED,
    "trimtab-blind": ForecastUse.OFF,
    "trimtab-always": ForecastUse.ALWAYS,
    "trimtab-lossless": ForecastUse.EARNED,
}
# Levels stay as they are: what is left of the gain at the quality loss of the best fixed configuration, which is none.
_LOSSLESS = {"trimtab-lossless": dict.fromkeys(("precision", "pruning_threshold"), Autonomy.OFF)}
_TICK_S = 15.0
_SEGMENT_S = 300.0
# No answer is waited for longer than this after the last arrival; what is open then has missed its objectives.
_DRAIN_S = 600.0
# Of each level, the oracle tries so many of the fixed configurations, the best ones by themselves.
_ORACLE_TRIES = 3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """A window as it was, for plots: requests per second, waiting, batch, whether a lossy level was in force, met so far."""

    t: float
    offered_rps: float | None
    waiting: float | None
    batch: int
    level: str
    ttft_p95_s: float | None


@dataclass
class _Ran:
    """A pool at the end of a run, and how it came there."""

    pool: SimulatedPool
    history: list[EngineSettings] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """One case under one policy. quality_loss: of an answer token, on average over the whole run."""

    trace: str
    policy: str
    attainment: float
    requests: int
    goodput_rps: float
    quality_loss: float
    changes: int
    reversals: int
    settings: EngineSettings
    took_s: float
    reasons: dict[str, int]
    # Of the controller's forecasts: what they proved to be worth, and the share of ticks at which that let them act.
    merit: Merit | None = None
    acting_ratio: float | None = None
    moments: tuple[Moment, ...] = ()

    def row(self, oracle: float | None) -> dict[str, Any]:
        return {
            "trace": self.trace,
            "policy": self.policy,
            "slo_attainment": round(self.attainment, 5),
            "requests": self.requests,
            "goodput_rps": round(self.goodput_rps, 4),
            "quality_loss": round(self.quality_loss, 5),
            "changes": self.changes,
            "rollbacks": 0,  # a replay has no canary that could fail
            "reversals": self.reversals,
            "regret_vs_oracle": None if oracle is None else round(oracle - self.attainment, 5),
            "settings_at_end": {
                knob: getattr(self.settings, knob)
                for knob in ("max_batch_size", "max_batched_tokens", "max_queue", "precision")
            },
            "reasons": self.reasons,
            "forecast": None if self.merit is None else _worth(self.merit, self.acting_ratio),
            "took_s": round(self.took_s, 2),
        }


def replay(case: Case, levels: Levels, options: Options, wanted: Sequence[str], say: Say) -> list[Result]:
    """The results of the policies named, in their order."""
    runner = _Runner(case, levels, options)
    found = []
    for name in wanted:
        result = runner.result(name)
        found.append(result)
        say(
            f"{result.trace}: {name} {100 * result.attainment:.2f} % of {result.requests}, quality loss "
            f"{100 * result.quality_loss:.2f} %, {result.changes} changes, in {result.took_s:.1f} s"
        )
    return found


class _Runner:
    def __init__(self, case: Case, levels: Levels, options: Options) -> None:
        self.case, self.levels, self.options = case, levels, options
        self._fixed: dict[EngineSettings, _Ran] = {}

    def result(self, name: str) -> Result:
        started = time.perf_counter()
        default = EngineSettings()
        reasons: dict[str, int] = {}
        merit, acted = None, None
        if name == "oracle":
            ran = self._oracle(default)
        elif name in ("static-best", "static-fastest"):
            ran = self._best_fixed(default, keeps_budget=name == "static-best")
        else:
            policy = self._policy(name, default)
            ran = self._run(default, policy)
            if isinstance(policy, Trimtab):
                reasons, merit = policy.reasons, policy.record.merit
                acted = policy.acting / max(1, policy.ticks)
        met = self.attainment(ran.pool.requests)
        scored = self._scored(ran.pool.requests)
        return Result(
            trace=self.case.arrivals.name,
            policy=name,
            attainment=met,
            requests=len(scored),
            goodput_rps=met * len(scored) / max(self.case.arrivals.duration_s - self.case.warm_s, 1e-9),
            quality_loss=ran.pool.quality_loss,
            changes=len(ran.history),
            reversals=_reversals([default.max_batch_size, *(each.max_batch_size for each in ran.history)]),
            settings=ran.pool.settings,
            took_s=time.perf_counter() - started,
            reasons=reasons,
            merit=merit,
            acting_ratio=acted,
            moments=tuple(ran.moments),
        )

    def attainment(self, requests: Sequence[Request]) -> float:
        slo, scored = self.case.policy.slo, self._scored(requests)
        return sum(r.meets(slo.ttft_p95_s, slo.itl_p95_s) for r in scored) / max(1, len(scored))

    def _scored(self, requests: Sequence[Request]) -> list[Request]:
        return [request for request in requests if request.arrived_s >= self.case.warm_s]

    def _best_fixed(self, default: EngineSettings, *, keeps_budget: bool) -> _Ran:
        """In hindsight; of those that are equally good the one that loses least quality."""
        fixed = [self._fixed_run(settings) for settings in (default, *grid(default, self.levels))
                 if not keeps_budget or self.levels.loss(settings) <= self.case.budget]  # fmt: skip
        return max(fixed, key=lambda ran: (self.attainment(ran.pool.requests), -ran.pool.quality_loss))

    def _fixed_run(self, settings: EngineSettings) -> _Ran:
        if settings not in self._fixed:
            self._fixed[settings] = self._run(settings, Static())
        return self._fixed[settings]

    def _policy(self, name: str, default: EngineSettings) -> ReplayPolicy:
        case, levels = self.case, self.levels
        if name in _USE:
            capabilities = NodeCapabilities(
                precisions=tuple(dict.fromkeys(precision for precision, _ in levels.tables)),
                max_batch_size=limit_rows(levels),
                max_batched_tokens=2048,
                max_model_len=self.options.max_model_len,
                kv_tokens=self.options.kv_tokens,
            )
            forecast = case.policy.forecast.model_copy(update={"use": _USE[name]})
            autonomy = case.policy.autonomy | _LOSSLESS.get(name, {})
            policy = case.policy.model_copy(update={"forecast": forecast, "autonomy": autonomy})
            return Trimtab(policy, default, capabilities, levels)
        if name == "random":
            return Random(grid(default, levels), np.random.default_rng([self.options.seed, 3]))
        known: dict[str, Callable[[], ReplayPolicy]] = {
            "static-default": Static,
            "reactive": lambda: Reactive(levels),
            "seed-adaptive": lambda: SeedAdaptive(case.policy, levels),
        }
        return known[name]()

    def _pool(self, settings: EngineSettings) -> SimulatedPool:
        case, options = self.case, self.options
        return SimulatedPool(
            case.arrivals, self.levels, settings, options.nodes, options.kv_tokens, options.seed, case.faults
        )

    def _run(self, settings: EngineSettings, policy: ReplayPolicy) -> _Ran:
        """The pool at the end. Who is no controller has the quality budget kept for it: a lossy level is in force only while the
        average so far is within."""
        ran = _Ran(self._pool(settings))
        pool = ran.pool
        pending: tuple[float, EngineSettings] | None = None
        while not self._over(pool):
            seen = pool.window(_TICK_S)
            ran.moments.append(_moment(pool, seen))
            if pending is not None and pool.now_s >= pending[0]:
                pool.settings = pending[1]
                ran.history.append(pool.settings)
                pending = None
            wish = policy.wants(seen, pool)
            if not isinstance(policy, Trimtab | Static):
                wish = self._within_budget(pool, wish)
            if wish is not None and wish != pool.settings and pending is None:
                pending = (pool.now_s + policy.lead_s, wish)
        return ran

    def _within_budget(self, pool: SimulatedPool, wish: EngineSettings | None) -> EngineSettings | None:
        wanted = pool.settings if wish is None else wish
        if self.levels.loss(wanted) <= self.case.budget or pool.quality_loss <= self.case.budget:
            return wish
        exact = next(iter(self.levels.tables))
        return wanted.replace(precision=exact[0].value, pruning_threshold=exact[1])

    def _oracle(self, default: EngineSettings) -> _Ran:
        """Clairvoyant, five minutes at a time: tries the best fixed configurations of each level on what really comes next and
        keeps the best that the budget allows.

        Judged after one more such stretch, so that a backlog left behind counts. Greedy: a lower bound of the best.
        """
        tries = self._tries(default)
        ran = _Ran(self._pool(default))
        pool = ran.pool
        while not self._over(pool):
            tried: list[tuple[float, float, EngineSettings]] = []
            # What is over cannot change any more; copying it for each trial would take most of the time.
            past, pool.requests = pool.requests, [r for r in pool.requests if r.end_s is None and not r.lost]
            shared = {id(self.levels): self.levels, id(self.case.arrivals): self.case.arrivals}
            for settings in tries:
                if self._within_budget(pool, settings) != settings:
                    continue
                trial = copy.deepcopy(pool, dict(shared))
                trial.settings = settings
                self._stretch(trial, 2 * _SEGMENT_S)
                tried.append((round(self.attainment(trial.requests), 4), -self.levels.loss(settings), settings))
            pool.requests = past
            chosen = max(tried, key=lambda each: each[:2])[2]
            if chosen != pool.settings:
                pool.settings = chosen
                ran.history.append(chosen)
            self._stretch(pool, _SEGMENT_S, ran.moments)
        return ran

    def _tries(self, default: EngineSettings) -> list[EngineSettings]:
        found = []
        for level in self.levels.tables:
            own = [settings for settings in grid(default, self.levels) if level_of(settings) == level]
            own.sort(key=lambda settings: -self.attainment(self._fixed_run(settings).pool.requests))
            found += own[:_ORACLE_TRIES]
        return found

    def _stretch(self, pool: SimulatedPool, seconds: float, moments: list[Moment] | None = None) -> None:
        end_s = pool.now_s + seconds
        while pool.now_s < end_s and not self._over(pool):
            seen = pool.window(_TICK_S)
            if moments is not None:
                moments.append(_moment(pool, seen))

    def _over(self, pool: SimulatedPool) -> bool:
        return pool.ended or pool.now_s > self.case.arrivals.duration_s + _DRAIN_S


def _moment(pool: SimulatedPool, seen: Observation) -> Moment:
    level = level_of(pool.settings)
    name = level[0].value + (f"@{level[1]:g}" if level[1] else "")
    return Moment(pool.now_s, seen.offered_rps, seen.waiting, pool.settings.max_batch_size, name, seen.ttft_p95_s)


def _reversals(sizes: Sequence[int]) -> int:
    """How often the batch turned from growing to shrinking or back."""
    moves = [1 if after > before else -1 for before, after in pairwise(sizes) if after != before]
    return sum(one != other for one, other in pairwise(moves))


def _worth(merit: Merit, acting_ratio: float | None) -> dict[str, Any]:
    figures = {"cost_ratio": merit.cost_ratio, "loss_ratio": merit.loss_ratio, "precision": merit.precision,
               "acting_ratio": acting_ratio}  # fmt: skip
    rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
    return rounded | {"truths": merit.truths, "threats": merit.threats_seen}


def document(results: Sequence[Result], notes: Sequence[str], options: Options) -> dict[str, Any]:
    """The report as plain JSON: a row per case and policy, and the means over the cases."""
    oracle = {result.trace: result.attainment for result in results if result.policy == "oracle"}
    by_policy: dict[str, list[Result]] = {}
    for result in results:
        by_policy.setdefault(result.policy, []).append(result)
    return {
        "benchmark": "replay",
        "options": {name: getattr(options, name) for name in Options.__dataclass_fields__},
        "results": [result.row(oracle.get(result.trace)) for result in results],
        "mean_attainment": {
            name: round(float(np.mean([result.attainment for result in own])), 5) for name, own in by_policy.items()
        },
        "mean_quality_loss": {
            name: round(float(np.mean([result.quality_loss for result in own])), 5) for name, own in by_policy.items()
        },
        "notes": list(notes),
    }
