"""Runs observe, forecast, decide and apply against a simulated pool, as the controller does, tick by tick."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, Decision, DecisionInputs, NodeFacts, PastChange
from controlplane.decisions.gather import needed_history
from controlplane.decisions.performance import workload_of
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.step_memory.learning import Serving, learn_step_times
from controlplane.decisions.step_memory.levels import PoolMemory
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.service import HISTORY_S, forecast_pool
from controlplane.forecasting.track_record import TrackRecord, newest_forecast
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepArithmetic, StepProfile
from tests.support.simulated_pool import SimulatedPool, probe_cells

CAPABILITIES = NodeCapabilities(
    precisions=(Precision.BF16, Precision.INT8),
    max_batch_size=64,
    max_batched_tokens=2048,
    max_model_len=2048,
    kv_tokens=32768,
)
PROFILE = StepProfile(cells=tuple(probe_cells()))
NODES = tuple(NodeFacts(id=f"n{i}", name=f"node-{i}", ready=True, capabilities=CAPABILITIES) for i in range(2))


@dataclass
class ClosedLoop:
    """`rollout_s` is how long a change takes from decision to the last node; meanwhile a rollout is under way.

    `see` may spoil what the loop gets to know of a window; `tells` (of the pool, and what the newest load says) speaks in place
    of the race of forecasters.
    """

    pool: SimulatedPool
    policy: Policy = field(default_factory=Policy)
    tick_s: float = 5.0
    rollout_s: float = 40.0
    see: Callable[[Observation], Observation] = lambda seen: seen
    tells: Callable[[SimulatedPool, Forecast], Forecast] | None = None
    record: TrackRecord = field(default_factory=TrackRecord)
    history: list[Observation] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    inputs: list[DecisionInputs] = field(default_factory=list)
    changes: list[PastChange] = field(default_factory=list)
    home: EngineSettings | None = None
    memory: PoolMemory = field(default_factory=PoolMemory)
    _pending: tuple[float, EngineSettings] | None = None

    def run(self, seconds: float) -> list[Decision]:
        """Decisions of this stretch."""
        first = len(self.decisions)
        end_s = self.pool.now_s + seconds
        while self.pool.now_s < end_s - 1e-6:
            self.tick()
        return self.decisions[first:]

    def tick(self) -> Decision:
        self.history.append(self.see(self.pool.window(self.tick_s)))
        self._finish_rollout()
        self.home = self.home or self.pool.settings
        seen = self.history[-1]
        self.record.came(seen.window_end, seen.offered_rps if seen.usable else None)
        inputs = self._inputs()
        decision = decide(inputs)
        if (alone := decision.forecast.get("alone")) is not None:
            self.record.feared(decision.at, alone["feared_rps"], alone["horizon_s"])
        self.inputs.append(inputs)
        self.decisions.append(decision)
        if decision.outcome is Outcome.APPLY:
            assert decision.chosen is not None
            self._pending = (self.pool.now_s + self.rollout_s, decision.chosen)
            self.changes.append(PastChange(decision.at, decision.trigger, decision.chosen.content_hash()))
        return decision

    def applied(self) -> list[Decision]:
        return [d for d in self.decisions if d.outcome is Outcome.APPLY]

    def _finish_rollout(self) -> None:
        if self._pending is not None and self.pool.now_s >= self._pending[0]:
            self.pool.settings = self._pending[1]
            self._pending = None
            self.changes.append(PastChange(self.pool.at, self.decisions[-1].trigger, by_controller=False))

    def _inputs(self) -> DecisionInputs:
        since = self.pool.at - timedelta(seconds=HISTORY_S)
        history = tuple(seen for seen in self.history if seen.window_end > since)
        forecasts, newest = self._forecasts(history)
        settings = self.pool.settings
        serving = Serving([PROFILE], settings, StepArithmetic.of(settings))
        learned = learn_step_times(self.memory, serving, history, workload_of(history), self.pool.at)
        self.memory = learned.memory
        return DecisionInputs(
            now=self.pool.at,
            pool="demo",
            policy=self.policy,
            policy_version=1,
            settings=settings,
            nodes=NODES,
            observation=history[-1],
            history=needed_history(history, self.policy, self.pool.at),
            forecasts=forecasts,
            newest=newest,
            merit=self.record.merit,
            step_times=learned.step_times,
            workload=workload_of(history),
            changes=tuple(self.changes),
            home=self.home,
            active_rollout=None if self._pending is None else "under-way",
            rules=RULES,
        )

    def _forecasts(self, history: Sequence[Observation]) -> tuple[dict[str, Forecast], Forecast | None]:
        horizon_s = self.policy.forecast.horizon_s
        newest = newest_forecast(history, horizon_s)
        if self.tells is None:
            found = forecast_pool(history, horizon_s=horizon_s)
        else:
            found = {} if newest is None else {"offered_rps": self.tells(self.pool, newest)}
        if newest is not None and "offered_rps" in found:
            self.record.made(found["offered_rps"], newest, self.tick_s)
        return found, newest
