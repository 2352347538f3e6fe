"""One pool, one tick: observe, save, forecast, decide, record, and begin a rollout where the decision says so.

The stages are calls of the rooms; here is only their order, their transactions and their deadline. A tick that overruns ends
without effect: what it would have decided is old by then.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.reasons import Outcome
from controlplane.errors import ControlPlaneError, Fenced
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets import service as fleets
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.remembered import Fits
from controlplane.forecasting.selection import FORECASTERS
from controlplane.forecasting.service import HISTORY_S, forecast_pool
from controlplane.processes import lease
from controlplane.rollouts import service as rollouts
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Observation, PoolRef, Quality, missing
from controlplane.telemetry.plausibility import implausible
from controlplane.telemetry.prometheus import PrometheusUnavailable

log = structlog.get_logger(__name__)

ACTOR = "controller"
# control-plane design 2.0: a tick that takes longer has no effect.
DEADLINE_S = 30.0
# What a window is held against to see whether it can be true.
_PLAUSIBLE_S, _PLAUSIBLE_WINDOWS = 300.0, 24


class Stage(StrEnum):
    OBSERVE = "observe"
    FORECAST = "forecast"
    DECIDE = "decide"
    RECORD = "record"


class StageFailed(Exception):
    """What a stage raised, with its name."""

    def __init__(self, stage: Stage, cause: Exception) -> None:
        super().__init__(f"{stage.value}: {type(cause).__name__}: {cause}")
        self.stage = stage


class TickOverran(Exception):
    """The tick took longer than its deadline."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """`unavailable` is why Prometheus could not be asked; the decision was then made without figures, so it holds."""

    decision: Decision
    rollout_id: str | None
    unavailable: str | None


class Ticker:
    """Not thread-safe, as its collector is not."""

    def __init__(
        self,
        engine: Engine,
        settings: ControlPlaneSettings,
        clock: Clock,
        collector: Collector,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._settings, self._clock, self._collector = engine, settings, clock, collector
        self._monotonic = monotonic
        self._fits = Fits(lambda: FORECASTERS)

    def tick(self, pool_id: str, at: datetime, epoch: int) -> Ticked:
        """at: end of the window to observe. Raises Fenced, StageFailed, TickOverran."""
        began = self._monotonic()
        stage = Stage.OBSERVE
        try:
            history, unavailable = self._observe(pool_id, at, epoch)
            stage = self._next(Stage.FORECAST, began)
            forecasts = self._forecast(pool_id, history)
            stage = self._next(Stage.DECIDE, began)
            inputs = self._inputs(pool_id, history, forecasts)
            decision = decide(inputs)
            stage = self._next(Stage.RECORD, began)
            rollout_id = self._record(pool_id, decision, inputs, epoch)
        except (Fenced, TickOverran):
            raise
        except Exception as error:
            raise StageFailed(stage, error) from error
        return Ticked(decision, rollout_id, unavailable)

    def _next(self, stage: Stage, began: float) -> Stage:
        took_s = self._monotonic() - began
        if took_s > DEADLINE_S:
            raise TickOverran(
                f"{took_s:.0f} s had passed before the stage {stage.value}; a tick has {DEADLINE_S:.0f} s"
            )
        return stage

    def forget_all_but(self, pool_ids: Iterable[str]) -> None:
        """What was remembered of pools that are gone."""
        self._fits.forget_all_but(set(pool_ids))

    def _observe(self, pool_id: str, at: datetime, epoch: int) -> tuple[list[Observation], str | None]:
        """The pool's windows, oldest first, the one that ends now last; and why Prometheus could not be asked."""
        with session_scope(self._engine, read_only=True) as session:
            pool = fleets.get_pool(session, pool_id)
            ref = PoolRef(pool.id, pool.name, pool.fleet.name)
            nodes = decisions.live_nodes(fleets.list_nodes(session, pool_id), self._clock.now())
            refs = [NodeRef(node.id, node.name) for node in nodes]
            history = telemetry.recent(session, pool_id, at - timedelta(seconds=HISTORY_S), at)
        history = [seen for seen in history if seen.window_end < at]
        before = [seen for seen in history if seen.window_end > at - timedelta(seconds=_PLAUSIBLE_S)][
            -_PLAUSIBLE_WINDOWS:
        ]
        window_s, unavailable = self._settings.window_s, None
        try:
            observation, by_node = self._collector.collect(ref, refs, at, window_s)
        except PrometheusUnavailable as error:
            unavailable = error.detail
            observation, by_node = missing(at, window_s), {node.id: missing(at, window_s) for node in refs}
        why = implausible(observation, before) if observation.usable else None
        if why is not None:
            # Not seen rather than seen wrong: nothing is learned from it, and nothing changes on it.
            observation = missing(at, window_s)
        with session_scope(self._engine) as session:
            lease.assert_leads(session, lease.CONTROLLER, epoch)
            telemetry.save_observations(session, pool_id, observation, by_node)
            if why is not None and not (before and before[-1].quality is Quality.MISSING):
                events.record(
                    session, kind=EventKind.TELEMETRY_IMPLAUSIBLE, severity=Severity.WARNING, actor="telemetry", at=at,
                    message=f"Figures that cannot be true were left out: {why}.", pool_id=pool_id,
                )  # fmt: skip
        return [*history, observation], unavailable

    def _forecast(self, pool_id: str, history: list[Observation]) -> dict[str, Forecast]:
        with session_scope(self._engine, read_only=True) as session:
            policy, _ = decisions.current_policy(session, pool_id)
        return forecast_pool(
            history, horizon_s=policy.forecast.horizon_s, forecasters=lambda metric: self._fits.of(pool_id, metric)
        )

    def _inputs(self, pool_id: str, history: list[Observation], forecasts: dict[str, Forecast]) -> DecisionInputs:
        now = self._clock.now()
        with session_scope(self._engine, read_only=True) as session:
            active = rollouts.active_rollout(session, pool_id)
            if active is not None and rollouts.may_supersede(active, ACTOR):
                active = None  # it has not begun: what is decided now takes its place
            return decisions.gather_inputs(
                session,
                fleets.get_pool(session, pool_id),
                now=now,
                observation=history[-1],
                history=history,
                forecasts=forecasts,
                active_rollout=None if active is None else active.id,
                heartbeat_timeout_s=self._settings.heartbeat_timeout_s,
            )

    def _record(self, pool_id: str, decision: Decision, inputs: DecisionInputs, epoch: int) -> str | None:
        """The decision and the rollout that it leads to stand or fall together."""
        with session_scope(self._engine) as session:
            lease.assert_leads(session, lease.CONTROLLER, epoch)
            row = decisions.record_decision(session, decision, pool_id=pool_id, inputs=inputs, epoch=epoch, actor=ACTOR)
            # What people must agree to is begun as well: as a rollout that waits for them.
            proposed = decision.outcome is Outcome.ADVISE and decision.mode is Autonomy.APPROVE
            if decision.outcome is not Outcome.APPLY and not proposed:
                return None
            try:
                with session.begin_nested():
                    return self._begin_rollout(session, pool_id, row.id, decision, inputs, epoch)
            except ControlPlaneError as error:
                # A person or the pool was quicker than the decision: it stands as it was made, without a rollout.
                log.warning("rollout_not_begun", pool_id=pool_id, decision_id=row.id, reason=error.detail)
                rollouts.note_not_begun(session, pool_id, row.id, error, at=decision.at)
                return None

    def _begin_rollout(
        self, session: Session, pool_id: str, decision_id: str, decision: Decision, inputs: DecisionInputs, epoch: int
    ) -> str:
        assert decision.chosen is not None, "a decision to apply names what to apply"
        pool = fleets.get_pool(session, pool_id)
        waiting = rollouts.active_rollout(session, pool_id)
        if waiting is not None and rollouts.may_supersede(waiting, ACTOR):
            wanted = fleets.get_revision(session, waiting.to_revision_id)
            if wanted.content_hash == decision.chosen.content_hash():
                return waiting.id  # the same again: the one that waits keeps its approvals
        revision = fleets.create_revision(
            session, pool, decision.chosen, created_by=ACTOR, reason=decision.explanation, now=decision.at
        )
        rollout = rollouts.create_rollout(
            session, pool=pool, to_revision=revision, decision_id=decision_id, policy=inputs.policy, epoch=epoch,
            created_by=ACTOR, reason=decision.explanation, now=decision.at,
            heartbeat_timeout_s=self._settings.heartbeat_timeout_s,
        )  # fmt: skip
        decisions.link_rollout(session, decision_id, rollout.id)
        return rollout.id
