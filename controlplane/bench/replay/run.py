"""Replays each trace under each policy and scores what clients got."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from controlplane.bench.replay.arrivals import Arrivals
from controlplane.bench.replay.node import Request
from controlplane.bench.replay.policies import (
    Random,
    Reactive,
    ReplayPolicy,
    SeedAdaptive,
    Static,
    Trimtab,
    best,
    grid,
)
from controlplane.bench.replay.pool import Faults, SimulatedPool
from controlplane.bench.replay.step_table import StepTable
from controlplane.decisions.policy import Policy, Slo
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings

POLICIES = (
    "static-default",
    "static-best",
    "seed-adaptive",
    "reactive",
    "random",
    "trimtab",
    "trimtab-blind",
    "oracle",
)
_TICK_S = 15.0
_SEGMENT_S = 300.0
# No answer is waited for longer than this after the last arrival; what is open then has missed its objectives.
_DRAIN_S = 600.0
_REFERENCE_BATCH = 32

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """`utilisation`: how full the busiest sustained five minutes make the pool, by the step table at a batch of 32."""

    nodes: int = 4
    utilisation: float = 0.8
    limit_s: float | None = None
    faults: bool = True
    seed: int = 0
    max_model_len: int = 2048
    kv_tokens: int = 65_536


@dataclass(frozen=True, slots=True)
class Case:
    """A trace made fit for the pool, with objectives and faults that are the same for every policy."""

    arrivals: Arrivals
    policy: Policy
    faults: Faults
    share: float


def prepare(arrivals: Arrivals, table: StepTable, options: Options) -> Case:
    """Clips lengths to the model, thins the load to the pool, and derives objectives from the table and the lengths alone."""
    cut = arrivals if options.limit_s is None else arrivals.first(options.limit_s)
    cut = cut.clipped(options.max_model_len * 3 // 4, options.max_model_len // 4)
    prompt, answer = float(np.mean(cut.prompt)), float(np.mean(cut.answer))
    step_s = table.step_s(_REFERENCE_BATCH, 0)
    per_token_s = (table.step_s(_REFERENCE_BATCH, 256) - step_s) / 256
    capacity_rps = options.nodes / (answer * step_s / _REFERENCE_BATCH + prompt * per_token_s)
    counts = np.bincount((cut.t // _SEGMENT_S).astype(int))
    busiest_rps = float(np.quantile(counts, 0.95)) / min(_SEGMENT_S, max(cut.duration_s, 1.0))
    share = min(1.0, options.utilisation * capacity_rps / max(busiest_rps, 1e-9))
    thin = cut.thinned(share, options.seed)
    # Five times what a long prompt needs alone, and twice a step of the reference batch with the prefill that this mix of lengths
    # brings along: without it, no settings could keep the gap where prompts are long and answers short.
    mixed = min(int(_REFERENCE_BATCH * prompt / answer), EngineSettings().max_batched_tokens)
    long_prompt = int(np.quantile(cut.prompt, 0.95))
    slo = Slo(ttft_p95_s=5 * table.step_s(1, long_prompt), itl_p95_s=2 * table.step_s(_REFERENCE_BATCH, mixed))
    faults = Faults.drawn(options.nodes, thin.duration_s, options.seed) if options.faults else Faults()
    return Case(thin, Policy(slo=slo), faults, share)


@dataclass(frozen=True, slots=True)
class Result:
    """One trace under one policy."""

    trace: str
    policy: str
    attainment: float
    requests: int
    goodput_rps: float
    changes: int
    reversals: int
    settings: EngineSettings
    took_s: float
    reasons: dict[str, int]

    def row(self, oracle: float | None) -> dict[str, Any]:
        return {
            "trace": self.trace,
            "policy": self.policy,
            "slo_attainment": round(self.attainment, 5),
            "requests": self.requests,
            "goodput_rps": round(self.goodput_rps, 4),
            "quality_loss": 0.0,  # no policy may turn precision or pruning here: both need a person by default
            "changes": self.changes,
            "reversals": self.reversals,
            "regret_vs_oracle": None if oracle is None else round(oracle - self.attainment, 5),
            "settings_at_end": {
                knob: getattr(self.settings, knob) for knob in ("max_batch_size", "max_batched_tokens")
            },
            "reasons": self.reasons,
            "took_s": round(self.took_s, 2),
        }


def replay(case: Case, table: StepTable, options: Options, wanted: Sequence[str], say: Say) -> list[Result]:
    """The results of the policies named, in their order."""
    runner = _Runner(case, table, options)
    found = []
    for name in wanted:
        result = runner.result(name)
        found.append(result)
        say(f"{result.trace}: {name} {100 * result.attainment:.2f} % of {result.requests} in {result.took_s:.1f} s")
    return found


@dataclass
class _Runner:
    case: Case
    table: StepTable
    options: Options

    def result(self, name: str) -> Result:
        started = time.perf_counter()
        default = EngineSettings()
        reasons: dict[str, int] = {}
        if name == "oracle":
            pool, history = self._oracle(default)
        elif name == "static-best":
            runs = [self._run(settings, Static()) for settings in (default, *grid(default))]
            chosen = best([(self.attainment(run.requests), run.settings) for run, _ in runs])
            pool, history = next(run for run in runs if run[0].settings == chosen)
        else:
            policy = self._policy(name, default)
            pool, history = self._run(default, policy)
            reasons = policy.reasons if isinstance(policy, Trimtab) else {}
        met = self.attainment(pool.requests)
        return Result(
            trace=self.case.arrivals.name,
            policy=name,
            attainment=met,
            requests=len(pool.requests),
            goodput_rps=met * len(pool.requests) / max(self.case.arrivals.duration_s, 1e-9),
            changes=len(history),
            reversals=_reversals([default.max_batch_size, *history]),
            settings=pool.settings,
            took_s=time.perf_counter() - started,
            reasons=reasons,
        )

    def attainment(self, requests: Sequence[Request]) -> float:
        slo = self.case.policy.slo
        return sum(r.meets(slo.ttft_p95_s, slo.itl_p95_s) for r in requests) / max(1, len(requests))

    def _policy(self, name: str, default: EngineSettings) -> ReplayPolicy:
        if name in ("trimtab", "trimtab-blind"):
            capabilities = NodeCapabilities(
                precisions=(self.table.precision,),
                max_batch_size=64,
                max_batched_tokens=2048,
                max_model_len=self.options.max_model_len,
                kv_tokens=self.options.kv_tokens,
            )
            return Trimtab(self.case.policy, default, capabilities, forecasting=name == "trimtab")
        if name == "random":
            return Random(default, np.random.default_rng([self.options.seed, 3]))
        known: dict[str, Callable[[], ReplayPolicy]] = {
            "static-default": Static,
            "reactive": Reactive,
            "seed-adaptive": lambda: SeedAdaptive(self.case.policy),
        }
        return known[name]()

    def _pool(self, settings: EngineSettings) -> SimulatedPool:
        return SimulatedPool(
            self.case.arrivals,
            self.table,
            settings,
            self.options.nodes,
            self.options.kv_tokens,
            self.options.seed,
            self.case.faults,
        )

    def _run(self, settings: EngineSettings, policy: ReplayPolicy) -> tuple[SimulatedPool, list[int]]:
        """The pool at the end, and the batch sizes that came into force."""
        pool, history = self._pool(settings), []
        pending: tuple[float, EngineSettings] | None = None
        while not self._over(pool):
            seen = pool.window(_TICK_S)
            if pending is not None and pool.now_s >= pending[0]:
                pool.settings = pending[1]
                history.append(pool.settings.max_batch_size)
                pending = None
            wish = policy.wants(seen, pool)
            if wish is not None and wish != pool.settings and pending is None:
                pending = (pool.now_s + policy.lead_s, wish)
        return pool, history

    def _oracle(self, default: EngineSettings) -> tuple[SimulatedPool, list[int]]:
        """Clairvoyant, five minutes at a time: tries the whole grid on what really comes next and keeps the best.

        Judged after one more such stretch, so that a backlog left behind counts. Greedy: a lower bound of the best.
        """
        pool, history = self._pool(default), []
        while not self._over(pool):
            tried: list[tuple[float, EngineSettings]] = []
            # What is over cannot change any more; copying it for each trial would take most of the time.
            past, pool.requests = pool.requests, [r for r in pool.requests if r.end_s is None and not r.lost]
            shared = {id(self.table): self.table, id(self.case.arrivals): self.case.arrivals}
            for settings in (pool.settings, *grid(default)):
                trial = copy.deepcopy(pool, dict(shared))
                trial.settings = settings
                self._stretch(trial, 2 * _SEGMENT_S)
                tried.append((self.attainment(trial.requests), settings))
            pool.requests = past
            chosen = best(tried)
            if chosen != pool.settings:
                pool.settings = chosen
                history.append(chosen.max_batch_size)
            self._stretch(pool, _SEGMENT_S)
        return pool, history

    def _stretch(self, pool: SimulatedPool, seconds: float) -> None:
        end_s = pool.now_s + seconds
        while pool.now_s < end_s and not self._over(pool):
            pool.window(_TICK_S)

    def _over(self, pool: SimulatedPool) -> bool:
        return pool.ended or pool.now_s > self.case.arrivals.duration_s + _DRAIN_S


def _reversals(sizes: Sequence[int]) -> int:
    """How often the batch turned from growing to shrinking or back."""
    moves = [1 if after > before else -1 for before, after in pairwise(sizes) if after != before]
    return sum(one != other for one, other in pairwise(moves))


def document(results: Sequence[Result], notes: Sequence[str], options: Options) -> dict[str, Any]:
    """The report as plain JSON: a row per trace and policy, and the means over the traces."""
    oracle = {result.trace: result.attainment for result in results if result.policy == "oracle"}
    by_policy: dict[str, list[float]] = {}
    for result in results:
        by_policy.setdefault(result.policy, []).append(result.attainment)
    return {
        "benchmark": "replay",
        "options": {name: getattr(options, name) for name in Options.__dataclass_fields__},
        "results": [result.row(oracle.get(result.trace)) for result in results],
        "mean_attainment": {name: round(float(np.mean(values)), 5) for name, values in by_policy.items()},
        "notes": list(notes),
    }
