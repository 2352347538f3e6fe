"""Who turns the knobs in a replay: each policy sees a window and says which settings are wanted, or None for no change."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from controlplane.bench.replay.pool import SimulatedPool
from controlplane.bench.replay.step_table import Levels, level_of
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.gather import needed_history
from controlplane.decisions.performance import workload_of
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome, Trigger
from controlplane.decisions.step_memory.learning import Serving, learn_step_times
from controlplane.decisions.step_memory.levels import PoolMemory
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.service import HISTORY_S, forecast_pool
from controlplane.forecasting.track_record import TrackRecord, newest_forecast
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic

BATCHES, TOKENS = (8, 16, 32, 64, 128, 256), (512, 1024, 2048)
# How many may wait at a node: the default, and so few that an overload is refused rather than served late.
QUEUES = (EngineSettings().max_queue, 8, 2)
# A level is given up again after so long without a queue.
_CALM_S = 300.0


def grid(default: EngineSettings, levels: Levels) -> list[EngineSettings]:
    """The fixed configurations that hindsight chooses from, of each level; no batch beyond what the table was measured for."""
    most = max(cell.decode_rows for cell in levels.profile.cells)
    return [
        default.replace(
            max_batch_size=batch,
            max_batched_tokens=tokens,
            max_queue=queue,
            precision=precision.value,
            pruning_threshold=pruning,
        )
        for precision, pruning in levels.tables
        for batch in BATCHES
        if batch <= most
        for tokens in TOKENS
        for queue in QUEUES
    ]


class ReplayPolicy(Protocol):
    """`lead_s` is how long a change takes to be in force on all nodes."""

    @property
    def lead_s(self) -> float: ...

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None: ...


@dataclass(frozen=True)
class Static:
    """Leaves everything as it is."""

    lead_s: float = 0.0

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        return None


@dataclass
class SeedAdaptive:
    """The article's rule: the batch follows the ratio of target to smoothed inter-token latency, within a quarter a time."""

    policy: Policy
    levels: Levels
    lead_s: float = 15.0
    smoothed_s: float | None = None
    ladder: "_Ladder" = field(default_factory=lambda: _Ladder())

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if seen.itl_p95_s is None or not seen.usable:
            return None
        before = seen.itl_p95_s if self.smoothed_s is None else self.smoothed_s
        self.smoothed_s = 0.7 * before + 0.3 * seen.itl_p95_s
        ratio = min(max(self.policy.slo.itl_p95_s / self.smoothed_s, 0.8), 1.25)
        return self.ladder.step(seen, pool, self.levels, _batch(pool, round(pool.settings.max_batch_size * ratio)))


@dataclass
class _Ladder:
    """The same for rules that know the batch alone: the fastest level while more wait than fit into a batch, the exact one again
    after five minutes without a queue."""

    queued_s: float = -_CALM_S

    def step(
        self, seen: Observation, pool: SimulatedPool, levels: Levels, wish: EngineSettings | None
    ) -> EngineSettings | None:
        waiting = seen.waiting or 0.0
        if waiting > 0:
            self.queued_s = pool.now_s
        level = level_of(pool.settings)
        if waiting > pool.settings.max_batch_size:
            level = levels.fastest
        elif pool.now_s - self.queued_s >= _CALM_S:
            level = next(iter(levels.tables))
        wanted = pool.settings if wish is None else wish
        moved = wanted.replace(precision=level[0].value, pruning_threshold=level[1])
        return None if moved == pool.settings else moved


@dataclass(frozen=True)
class Reactive:
    """As a horizontal autoscaler works: batch in proportion to running and waiting requests against a target of 0.7, with its
    tolerance of 10 % and, downwards, the largest wish of the last 300 s."""

    levels: Levels
    lead_s: float = 15.0
    wishes: list[tuple[float, int]] = field(default_factory=list)
    ladder: _Ladder = field(default_factory=_Ladder)

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if not seen.usable or seen.running is None or seen.waiting is None:
            return None
        now, busy = pool.settings.max_batch_size, (seen.running + seen.waiting) / max(1, sum(pool.in_service))
        wish = max(BATCHES[0], round(busy / 0.7))
        self.wishes.append((pool.now_s, wish))
        self.wishes[:] = [(at, size) for at, size in self.wishes if at > pool.now_s - 300]
        batch = None
        if abs(wish / now - 1) > 0.1:
            batch = _batch(pool, wish if wish > now else max(size for _, size in self.wishes))
        return self.ladder.step(seen, pool, self.levels, batch)


@dataclass(frozen=True)
class Random:
    """One configuration of the grid each five minutes, by chance."""

    configurations: list[EngineSettings]
    rng: np.random.Generator
    lead_s: float = 15.0

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if pool.now_s % 300 >= seen.window_s:
            return None
        return self.configurations[int(self.rng.integers(len(self.configurations)))]


@dataclass
class Trimtab:
    """The controller's own code from windows to decision, without its database. Whether decisions go by forecasts is the policy's
    `forecast.use`."""

    policy: Policy
    home: EngineSettings
    capabilities: NodeCapabilities
    levels: Levels
    lead_s: float = 30.0
    history: list[Observation] = field(default_factory=list)
    changes: list[PastChange] = field(default_factory=list)
    busy_until: datetime | None = None
    # Since when steps compute as they do, and what was answered so far: tokens, and each times what it lost.
    same_since: datetime | None = None
    numerics: str = ""
    memory: PoolMemory = field(default_factory=PoolMemory)
    answered: float = 0.0
    lost: float = 0.0
    in_force: EngineSettings | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    record: TrackRecord = field(default_factory=TrackRecord)
    # Ticks at which forecasts might act, of all.
    acting: int = 0
    ticks: int = 0

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        since = pool.at - timedelta(seconds=HISTORY_S)
        self.history[:] = [window for window in (*self.history, seen) if window.window_end > since]
        self._account(seen, pool)
        if self.busy_until is not None and pool.at >= self.busy_until:
            self.changes.append(PastChange(self.busy_until, Trigger.TICK, by_controller=False))
            self.busy_until = None
        self.record.came(pool.at, seen.offered_rps if seen.usable else None)
        decision = decide(self._inputs(seen, pool))
        if (alone := decision.forecast.get("alone")) is not None:
            self.record.feared(pool.at, alone["feared_rps"], alone["horizon_s"])
        self.ticks, self.acting = self.ticks + 1, self.acting + self.record.merit.may_act
        self.reasons[decision.reason.value] = self.reasons.get(decision.reason.value, 0) + 1
        if decision.outcome is not Outcome.APPLY or decision.chosen is None:
            return None
        self.changes.append(PastChange(decision.at, decision.trigger, decision.chosen.content_hash()))
        self.busy_until = pool.at + timedelta(seconds=self.lead_s)
        return decision.chosen

    def _account(self, seen: Observation, pool: SimulatedPool) -> None:
        """As the controller's own books have it: by the windows that were seen, each under the settings that it ran with."""
        tokens = (seen.generation_tokens_per_s or 0.0) * seen.window_s
        self.answered += tokens
        self.lost += tokens * self.levels.loss(self.in_force or pool.settings)
        self.in_force = pool.settings
        if self.numerics != pool.settings.numerics_key():
            self.numerics = pool.settings.numerics_key()
            self.same_since = pool.at

    def _inputs(self, seen: Observation, pool: SimulatedPool) -> DecisionInputs:
        settings, workload, since = pool.settings, workload_of(self.history), self.same_since
        windows = [w for w in self.history if since is None or w.window_end - timedelta(seconds=w.window_s) >= since]
        forecasts, newest = self._forecasts(seen)
        serving = Serving([self.levels.profile], settings, StepArithmetic.of(settings))
        learned = learn_step_times(self.memory, serving, windows, workload, pool.at)
        self.memory = learned.memory
        return DecisionInputs(
            now=pool.at,
            pool=pool.arrivals.name,
            policy=self.policy,
            policy_version=0,
            settings=settings,
            nodes=tuple(
                NodeFacts(id=f"n{number}", name=f"node-{number}", ready=ready, capabilities=self.capabilities)
                for number, ready in enumerate(pool.in_service)
            ),
            observation=seen,
            history=needed_history(self.history, self.policy, pool.at),
            forecasts=forecasts,
            newest=newest,
            merit=self.record.merit,
            step_times=learned.step_times,
            workload=workload,
            changes=tuple(change for change in self.changes if change.at > pool.at - timedelta(hours=1)),
            home=self.home,
            rules=RULES,
            quality_spent_ratio=self.lost / self.answered if self.answered else 0.0,
            active_rollout=None if self.busy_until is None else "under-way",
        )

    def _forecasts(self, seen: Observation) -> tuple[dict[str, Forecast], Forecast | None]:
        """All of them, and what the newest load alone says; the load's promises are remembered for their truth."""
        horizon_s = self.policy.forecast.horizon_s
        found, newest = forecast_pool(self.history, horizon_s=horizon_s), newest_forecast(self.history, horizon_s)
        if newest is not None and "offered_rps" in found:
            self.record.made(found["offered_rps"], newest, seen.window_s)
        return found, newest


def _batch(pool: SimulatedPool, size: int) -> EngineSettings | None:
    size = min(max(size, BATCHES[0]), BATCHES[-1])
    return None if size == pool.settings.max_batch_size else pool.settings.replace(max_batch_size=size)
