"""One pool, one tick: observe, save, forecast, decide, record, and begin a rollout where the decision says so.

The stages are calls of the rooms; here is only their order, their transactions and their deadline. A tick that overruns ends
without effect: what it would have decided is old by then.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.policy import Autonomy, Policy
from controlplane.decisions.reasons import Outcome, Trigger
from controlplane.errors import ControlPlaneError, Fenced
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.exploring import Explorer
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.forecasting.live import LiveForecasts
from controlplane.forecasting.spikes.watch import Look
from controlplane.foresight import Foresight
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from controlplane.recollection import Recollection
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.in_force import stretches
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.plan import Mode
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef, Quality, missing
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


@dataclass(frozen=True, slots=True)
class _Given:
    """What one query each brings of all pools, or of the one that is ticked by itself; by pool."""

    nodes: Mapping[str, Sequence[fleets.NodeReading]]
    policies: Mapping[str, tuple[Policy, int]]
    newest: Mapping[str, int]
    active: Mapping[str, Rollout]
    around: decisions.Around

    @classmethod
    def read(
        cls, session: Session, nodes: Mapping[str, Sequence[fleets.NodeReading]], pools: Iterable[Pool], now: datetime,
        pool_id: str | None = None,
    ) -> Self:  # fmt: skip
        """pools: all, or the one with pool_id."""
        active = {rollout.pool_id: rollout for rollout in rollouts.active_rollouts(session)}
        policies = decisions.current_policies(session, pool_id)
        rules = {pool.id: policies[pool.id][0] if pool.id in policies else Policy() for pool in pools}
        around = decisions.Around.read(session, rules, now)
        return cls(nodes, policies, fleets.newest_numbers(session, pool_id), active, around)


@dataclass(frozen=True, slots=True)
class _View:
    """A pool as SQL has it. history: its windows before this tick's, oldest first. memory: what they taught of its steps."""

    ref: PoolRef
    nodes: list[NodeRef]
    history: list[Observation]
    facts: decisions.PoolFacts
    memory: decisions.PoolMemory


@dataclass(frozen=True, slots=True)
class _Seen:
    """implausible: why figures were left out, where that is news; unavailable: why Prometheus could not be asked."""

    observation: Observation
    implausible: str | None
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
        self._forecasts = LiveForecasts(engine)
        self._recollection = Recollection()
        self._foresight = Foresight(engine, settings.tick_s)
        self._explorer = Explorer(engine, settings.heartbeat_timeout_s)
        self._lineages = decisions.Lineages()
        self._last_words = decisions.LastWords()
        self._memories = decisions.Memories()
        self._readings = fleets.NodeReadings()
        # Nodes whose windows are still to be saved, by pool.
        self._untold: dict[str, list[NodeRef]] = {}
        self._views: dict[tuple[str, datetime, int], _View] = {}
        # What forecasts of the last round were made from, and how far they look, by pool.
        self._forecast_from: dict[str, tuple[Sequence[Observation], float]] = {}

    def begin(self, pool_ids: Iterable[str], at: datetime, terms: Terms) -> None:
        """Asks Prometheus about all pools, and reads them from SQL while it answers. `tick` can do without."""
        self._collector.begin(at, self._settings.window_s)
        self._views.clear()
        try:
            with session_scope(self._engine, read_only=True) as session:
                there = fleets.list_pools(session)  # so that each is at hand
                given = _Given.read(session, self._readings.of_all(session), there, self._clock.now())
                self._foresight.begin(session, at)
                for pool_id in pool_ids:
                    epoch = terms.of(pool_id)
                    if epoch is not None:
                        self._views[pool_id, at, epoch] = self._view(session, given, pool_id, at, epoch)
                del there
        except Exception as error:  # noqa: BLE001 (the tick of the pool it came from meets it again, and the others do not)
            log.warning("pools_not_read_at_once", reason=f"{type(error).__name__}: {error}")

    def tick(self, pool_id: str, at: datetime, epoch: int) -> Ticked:
        """at: end of the window to observe. Raises Fenced, StageFailed, TickOverran."""
        began = self._monotonic()
        stage = Stage.OBSERVE
        seen: _Seen | None = None
        try:
            view = self._views.pop((pool_id, at, epoch), None) or self._read(pool_id, at, epoch)
            seen = self._observe(view, at)
            history = [*view.history, seen.observation]
            stage = self._next(Stage.FORECAST, began)
            self._foresight.notice(pool_id, epoch, seen.observation, view.history)
            look = self._foresight.look(pool_id, epoch, seen.observation, view.facts.policy)
            found = self._forecasts.forecast(
                pool_id, epoch, history, self._foresight.minutes(pool_id),
                horizon_s=view.facts.policy.forecast.horizon_s,
            )  # fmt: skip
            forecasts = self._foresight.told(found, look)
            stage = self._next(Stage.DECIDE, began)
            learned = decisions.learn(view.facts, view.memory, history)
            inputs = decisions.make_inputs(
                view.facts, observation=seen.observation, history=history, forecasts=forecasts,
                served=self._recollection.served(pool_id, seen.observation), learned=learned,
                newest=self._forecasts.newest(pool_id), merit=self._forecasts.merit(pool_id),
            )  # fmt: skip
            decision = decide(inputs)
            if (alone := decision.forecast.get("alone")) is not None:
                self._forecasts.feared(pool_id, at, alone["feared_rps"], alone["horizon_s"])
            stage = self._next(Stage.RECORD, began)
            rollout_id = self._record(view, seen, look, decision, inputs, learned.memory, epoch)
        except Fenced:
            self._last_words.forget(pool_id)
            self._memories.forget(pool_id)
            raise
        except Exception as error:
            self._recollection.forget(pool_id)
            self._last_words.forget(pool_id)
            self._memories.forget(pool_id)
            if seen is not None:
                self._keep_alone(pool_id, seen, epoch)  # what was seen is so, whatever came of it
            if isinstance(error, TickOverran):
                raise
            raise StageFailed(stage, error) from error
        self._recollection.remember(pool_id, epoch, history)
        self._untold[pool_id] = view.nodes
        self._forecast_from[pool_id] = history, view.facts.policy.forecast.horizon_s
        self._explorer.turn(pool_id, epoch, inputs, decision)
        return Ticked(decision, rollout_id, seen.unavailable)

    def tell_nodes(self, at: datetime, terms: Terms) -> None:
        """Saves the nodes' windows of all pools that ticked since and are still ours. No decision waits for it. Raises Fenced."""
        ours = {pool_id: nodes for pool_id, nodes in self._untold.items() if terms.of(pool_id) is not None}
        nodes = [(pool_id, node) for pool_id, nodes in ours.items() for node in nodes]
        self._untold.clear()
        window_s = self._settings.window_s
        try:
            found = self._collector.collect_nodes([node for _, node in nodes], at, window_s)
        except PrometheusUnavailable:
            found = {node.id: missing(at, window_s) for _, node in nodes}
        with session_scope(self._engine) as session:
            shards.assert_leads_all(session, terms, ours)
            telemetry.save_nodes(session, {node.id: pool_id for pool_id, node in nodes}, found)

    def race_ahead(self, until: datetime) -> None:
        """Lets forecasters race whose turn comes with the next round, so that no decision waits for it; what is not done by
        `until` is done then."""
        given, self._forecast_from = self._forecast_from, {}
        for pool_id, (history, horizon_s) in given.items():
            if self._clock.now() >= until:
                return
            self._forecasts.race_ahead(pool_id, history, self._foresight.minutes(pool_id), horizon_s=horizon_s)

    def _next(self, stage: Stage, began: float) -> Stage:
        took_s = self._monotonic() - began
        if took_s > DEADLINE_S:
            raise TickOverran(
                f"{took_s:.0f} s had passed before the stage {stage.value}; a tick has {DEADLINE_S:.0f} s"
            )
        return stage

    def coverage(self) -> Mapping[str, Mapping[str, float]]:
        """Of the load's bands, by pool and horizon."""
        return self._forecasts.coverage()

    def forget_all_but(self, pool_ids: Iterable[str]) -> None:
        """What was remembered of pools that are gone."""
        there = set(pool_ids)
        self._forecasts.forget_all_but(there)
        self._recollection.forget_all_but(there)
        self._foresight.forget_all_but(there)
        self._explorer.forget_all_but(there)
        self._lineages.forget_all_but(there)
        self._last_words.forget_all_but(there)
        self._memories.forget_all_but(there)

    def _read(self, pool_id: str, at: datetime, epoch: int) -> _View:
        with session_scope(self._engine, read_only=True) as session:
            nodes = {pool_id: self._readings.of_pool(session, pool_id)}
            given = _Given.read(session, nodes, [fleets.get_pool(session, pool_id)], self._clock.now(), pool_id)
            return self._view(session, given, pool_id, at, epoch)

    def _view(self, session: Session, given: _Given, pool_id: str, at: datetime, epoch: int) -> _View:
        """Everything that SQL has to say."""
        now = self._clock.now()
        pool = fleets.get_pool(session, pool_id)
        nodes = decisions.live_nodes(given.nodes.get(pool_id, ()), now)
        active = given.active.get(pool_id)
        if active is not None and rollouts.may_supersede(active, ACTOR):
            active = None  # it has not begun: what is decided now takes its place
        policy = given.policies.get(pool_id, (Policy(), 0))
        return _View(
            ref=PoolRef(pool.id, pool.name, pool.fleet.name),
            nodes=[NodeRef(node.id, node.name) for node in nodes],
            history=self._recollection.history(session, pool_id, at, epoch, policy[0]),
            facts=decisions.read_facts(
                pool, nodes, self._lineages.of(session, pool, given.newest.get(pool_id, 0)),
                policy, now=now, around=given.around,
                active_rollout=None if active is None else active.id,
                heartbeat_timeout_s=self._settings.heartbeat_timeout_s,
                quality_spent_ratio=self._spent(session, pool, policy[0], nodes, at, epoch),
            ),
            memory=self._memories.of(session, pool_id, epoch),
        )  # fmt: skip

    def _spent(
        self, session: Session, pool: Pool, policy: Policy, nodes: Sequence[fleets.NodeReading], at: datetime, epoch: int
    ) -> float | None:  # fmt: skip
        """Of the quality budget; None without one."""
        book = self._recollection.book(session, pool.id, at, epoch, policy)
        if book is None:
            return None
        now = self._clock.now()
        since = now - timedelta(seconds=policy.quality.average_over_s)
        return decisions.spent_ratio(stretches(session, pool, since), policy, nodes, now, book)

    def _observe(self, view: _View, at: datetime) -> _Seen:
        since = at - timedelta(seconds=_PLAUSIBLE_S)
        before = [seen for seen in view.history if seen.window_end > since][-_PLAUSIBLE_WINDOWS:]
        window_s, slo = self._settings.window_s, view.facts.policy.slo
        objectives = Objectives(slo.ttft_p95_s, slo.itl_p95_s)
        try:
            observation = self._collector.collect_pool(view.ref, view.nodes, at, window_s, objectives)
        except PrometheusUnavailable as error:
            return _Seen(missing(at, window_s), None, error.detail)
        why = implausible(observation, before) if observation.usable else None
        if why is None:
            return _Seen(observation, None, None)
        # Not seen rather than seen wrong: nothing is learned from it, and nothing changes on it.
        is_news = not (before and before[-1].quality is Quality.MISSING)
        return _Seen(missing(at, window_s), why if is_news else None, None)

    def _keep_alone(self, pool_id: str, seen: _Seen, epoch: int) -> None:
        """Raises Fenced. Any other trouble is the one that ended the tick, which is told: the next pool comes all the same."""
        try:
            with session_scope(self._engine) as session:
                shards.assert_leads(session, pool_id, epoch)
                _save(session, pool_id, seen)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 (told above, with the stage)
            log.warning("window_not_saved", pool_id=pool_id, reason=f"{type(error).__name__}: {error}")

    def _record(
        self, view: _View, seen: _Seen, look: Look | None, decision: Decision, inputs: DecisionInputs,
        memory: decisions.PoolMemory, epoch: int,
    ) -> str | None:  # fmt: skip
        """What was seen, the decision, and the rollout that it leads to stand or fall together."""
        pool_id = view.ref.id
        with session_scope(self._engine) as session:
            shards.assert_leads(session, pool_id, epoch)
            _save(session, pool_id, seen)
            self._foresight.keep(session, pool_id, look, seen.observation.window_end)
            self._forecasts.keep(session, pool_id, seen.observation.window_end)
            self._memories.keep(session, pool_id, epoch, memory, seen.observation.window_end)
            decision_id = decisions.record_decision(
                session, decision, pool_id=pool_id, inputs=inputs, epoch=epoch, actor=ACTOR, memory=self._last_words
            )
            # What people must agree to is begun as well: as a rollout that waits for them.
            proposed = decision.outcome is Outcome.ADVISE and decision.mode is Autonomy.APPROVE
            if decision.outcome is not Outcome.APPLY and not proposed:
                return None
            try:
                with session.begin_nested():
                    return self._begin_rollout(session, pool_id, decision_id, decision, inputs, epoch)
            except ControlPlaneError as error:
                # A person or the pool was quicker than the decision: it stands as it was made, without a rollout.
                log.warning("rollout_not_begun", pool_id=pool_id, decision_id=decision_id, reason=error.detail)
                rollouts.note_not_begun(session, pool_id, decision_id, error, at=decision.at)
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
            heartbeat_timeout_s=self._settings.heartbeat_timeout_s, mode=_mode_for(session, pool, decision, inputs),
        )  # fmt: skip
        decisions.link_rollout(session, decision_id, rollout.id)
        return rollout.id


def _mode_for(session: Session, pool: Pool, decision: Decision, inputs: DecisionInputs) -> Mode:
    """Protection that is known to be good goes to all nodes at once, unless people want to agree; all else has a canary."""
    assert decision.chosen is not None
    asks = rollouts.approvals_needed(inputs.policy, decision.previous.changed(decision.chosen), ACTOR)
    if decision.trigger is not Trigger.PROTECTIVE or asks:
        return Mode.CANARY
    known = rollouts.is_known(session, pool, decision.chosen.content_hash(), inputs.policy, decision.at)
    return Mode.DIRECT if known else Mode.CANARY


def _save(session: Session, pool_id: str, seen: _Seen) -> None:
    telemetry.save_observations(session, pool_id, seen.observation)
    if seen.implausible is not None:
        events.record(
            session, kind=EventKind.TELEMETRY_IMPLAUSIBLE, severity=Severity.WARNING, actor="telemetry",
            at=seen.observation.window_end, pool_id=pool_id,
            message=f"Figures that cannot be true were left out: {seen.implausible}.",
        )  # fmt: skip
