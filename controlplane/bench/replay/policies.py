"""Who turns the knobs in a replay: each policy sees a window and says which settings are wanted, or None for no change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from controlplane.bench.replay.pool import SimulatedPool
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.gather import needed_history
from controlplane.decisions.node_fits import offered_step_times
from controlplane.decisions.performance import workload_of
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome, Trigger
from controlplane.decisions.step_time import fit_step_times
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.last_value import LastValue
from controlplane.forecasting.selection import select_forecast
from controlplane.forecasting.series import series_of
from controlplane.forecasting.service import HISTORY_S, forecast_pool
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings

BATCHES, TOKENS = (2, 4, 8, 16, 32, 64), (256, 512, 1024)


def grid(default: EngineSettings) -> list[EngineSettings]:
    """The fixed configurations that hindsight chooses from."""
    return [default.replace(max_batch_size=batch, max_batched_tokens=tokens) for batch in BATCHES for tokens in TOKENS]


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
    lead_s: float = 15.0
    smoothed_s: float | None = None

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if seen.itl_p95_s is None or not seen.usable:
            return None
        before = seen.itl_p95_s if self.smoothed_s is None else self.smoothed_s
        self.smoothed_s = 0.7 * before + 0.3 * seen.itl_p95_s
        ratio = min(max(self.policy.slo.itl_p95_s / self.smoothed_s, 0.8), 1.25)
        return _batch(pool, round(pool.settings.max_batch_size * ratio))


@dataclass(frozen=True)
class Reactive:
    """As a horizontal autoscaler works: batch in proportion to running and waiting requests against a target of 0.7, with its
    tolerance of 10 % and, downwards, the largest wish of the last 300 s."""

    lead_s: float = 15.0
    wishes: list[tuple[float, int]] = field(default_factory=list)

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if not seen.usable or seen.running is None or seen.waiting is None:
            return None
        now, busy = pool.settings.max_batch_size, (seen.running + seen.waiting) / max(1, sum(pool.in_service))
        wish = max(BATCHES[0], round(busy / 0.7))
        self.wishes.append((pool.now_s, wish))
        self.wishes[:] = [(at, size) for at, size in self.wishes if at > pool.now_s - 300]
        if abs(wish / now - 1) <= 0.1:
            return None
        return _batch(pool, wish if wish > now else max(size for _, size in self.wishes))


@dataclass(frozen=True)
class Random:
    """One configuration of the grid each five minutes, by chance."""

    default: EngineSettings
    rng: np.random.Generator
    lead_s: float = 15.0

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        if pool.now_s % 300 >= seen.window_s:
            return None
        configurations = grid(self.default)
        return configurations[int(self.rng.integers(len(configurations)))]


@dataclass
class Trimtab:
    """The controller's own code from windows to decision, without its database.

    `forecasting` off leaves the last value alone in the race, with the band of its own past errors.
    """

    policy: Policy
    home: EngineSettings
    capabilities: NodeCapabilities
    forecasting: bool = True
    lead_s: float = 30.0
    history: list[Observation] = field(default_factory=list)
    changes: list[PastChange] = field(default_factory=list)
    busy_until: datetime | None = None
    reasons: dict[str, int] = field(default_factory=dict)

    def wants(self, seen: Observation, pool: SimulatedPool) -> EngineSettings | None:
        since = pool.at - timedelta(seconds=HISTORY_S)
        self.history[:] = [window for window in (*self.history, seen) if window.window_end > since]
        if self.busy_until is not None and pool.at >= self.busy_until:
            self.changes.append(PastChange(self.busy_until, Trigger.TICK, by_controller=False))
            self.busy_until = None
        decision = decide(self._inputs(seen, pool))
        self.reasons[decision.reason.value] = self.reasons.get(decision.reason.value, 0) + 1
        if decision.outcome is not Outcome.APPLY or decision.chosen is None:
            return None
        self.changes.append(PastChange(decision.at, decision.trigger, decision.chosen.content_hash()))
        self.busy_until = pool.at + timedelta(seconds=self.lead_s)
        return decision.chosen

    def _inputs(self, seen: Observation, pool: SimulatedPool) -> DecisionInputs:
        profile, settings = pool.table.profile, pool.settings
        workload = workload_of(self.history)
        cells = [cell for cell in profile.cells if cell.pruning == 0]
        offered = offered_step_times([profile], settings, workload)
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
            forecasts=self._forecasts(),
            step_times=fit_step_times(cells, self.history, settings.precision, offered),
            workload=workload,
            changes=tuple(change for change in self.changes if change.at > pool.at - timedelta(hours=1)),
            home=self.home,
            active_rollout=None if self.busy_until is None else "under-way",
        )

    def _forecasts(self) -> dict[str, Forecast]:
        horizon_s = self.policy.forecast.horizon_s
        if self.forecasting:
            return forecast_pool(self.history, horizon_s=horizon_s)
        series = series_of(self.history, "offered_rps")
        if series is None:
            return {}
        steps = max(1, round(horizon_s / series.step_s))
        return {"offered_rps": select_forecast(series, steps, (LastValue(),))}


def best(scored: Sequence[tuple[float, EngineSettings]]) -> EngineSettings:
    """Of (attainment, settings), the first with the highest."""
    return max(scored, key=lambda pair: pair[0])[1]


def _batch(pool: SimulatedPool, size: int) -> EngineSettings | None:
    size = min(max(size, BATCHES[0]), BATCHES[-1])
    return None if size == pool.settings.max_batch_size else pool.settings.replace(max_batch_size=size)
