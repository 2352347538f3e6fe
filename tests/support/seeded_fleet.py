"""A fleet with a past: two nodes, a surge, and what the real controller made of it, written tick by tick into a database.

Two simulated nodes answer in place of Prometheus and of the node processes. All else is the product's own code: enrolment,
heartbeats, the tick (observe, forecast, decide, record), the rollout's driver, acknowledgements, events.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from controlplane.db import session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.policy import demo_policy
from controlplane.decisions.reasons import Outcome
from controlplane.fleets import service as fleets
from controlplane.processes import service as processes
from controlplane.processes.shards import Terms
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.drive import Driver
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef, Quality, missing
from controlplane.tick import Ticker
from inference_node.contract.messages import AckOutcome, NodeState, SettingsAck
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepProfile
from tests.support.leading import take_over
from tests.support.registrations import heartbeat_of, registration
from tests.support.simulated_pool import SimulatedPool, probe_cells

MODEL = "SmolLM2-135M-Instruct"
SMALL = EngineSettings(max_batch_size=4, max_batched_tokens=512)
TICK_S = 5.0
CALM_RPS, SURGE_RPS = 1.2, 4.2
# How long after the told past a rollout may still take to end.
GRACE_S = 150.0
EPOCH_HOLDER = "controller@test:1"
_SUMS = {"offered_rps", "prompt_tokens_per_s", "generation_tokens_per_s", "requests", "errors", "rejected"}
_SUMS |= {"running", "waiting", "nodes_up"}


@dataclass(frozen=True, slots=True)
class SeededFleet:
    """Ids to open pages with. `decision_id` is the last one to apply, the rollout is its; `held_id` is the first one, whose
    change went through."""

    pool_id: str
    node_ids: tuple[str, ...]
    decision_id: str
    rollout_id: str
    held_id: str


class _Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


class _SimulatedCollector(Collector):
    """Answers with windows of the simulation: the one that ended last at the moment asked for."""

    def __init__(self) -> None:
        self._windows: dict[str, list[Observation]] = {}

    def add(self, seen: Mapping[str, Observation]) -> None:
        for node_id, window in seen.items():
            self._windows.setdefault(node_id, []).append(window)

    def begin(self, at: datetime, window_s: float) -> None: ...

    def collect_pool(
        self,
        pool: PoolRef,
        nodes: Sequence[NodeRef],
        at: datetime,
        window_s: float,
        objectives: Objectives | None = None,
    ) -> Observation:
        return _together(list(self.collect_nodes(nodes, at, window_s).values()), at, window_s)

    def collect_nodes(self, nodes: Iterable[NodeRef], at: datetime, window_s: float) -> dict[str, Observation]:
        return {node.id: self._at(node.id, at, window_s) for node in nodes}

    def _at(self, node_id: str, at: datetime, window_s: float) -> Observation:
        ended = [seen for seen in self._windows.get(node_id, []) if seen.window_end <= at]
        return replace(ended[-1], window_end=at, window_s=window_s) if ended else missing(at, window_s)


class SteadyCollector(_SimulatedCollector):
    """Every node serves alike at every moment: nothing that a rollout could be blamed for."""

    def _at(self, node_id: str, at: datetime, window_s: float) -> Observation:
        return Observation(
            at, window_s, Quality.OK, offered_rps=1.0, requests=window_s, errors=0.0, rejected=0.0, running=1.0, waiting=0.0,
            ttft_p95_s=0.2, itl_p95_s=0.04, e2e_p95_s=2.0, generation_tokens_per_s=40.0, kv_usage=0.1, nodes_up=1,
        )  # fmt: skip


def surge(start_s: float, end_s: float) -> Callable[[float], float]:
    """Offered load of the pool: calm, with a surge that ramps up within 20 s and ebbs away after its end."""

    def rate(at_s: float) -> float:
        up = min(1.0, max(0.0, (at_s - start_s) / 20))
        down = min(1.0, max(0.0, (end_s - at_s) / 20))
        return CALM_RPS + (SURGE_RPS - CALM_RPS) * min(up, down)

    return rate


def seed_fleet(
    engine: Engine, *, now: datetime, past_s: float = 360.0, surge_s: tuple[float, float] = (130.0, 290.0)
) -> SeededFleet:
    """Writes a past of `past_s` seconds, and of some more where a rollout is under way at their end, none of it later than
    `now`. `surge_s` says when, counted from the beginning, the surge runs.
    """
    begin = now - timedelta(seconds=past_s + GRACE_S)
    clock = _Clock(begin)
    with session_scope(engine) as session:
        epoch = take_over(session, EPOCH_HOLDER)
    pool_id, node_ids = _join(engine, clock.now())
    rate = surge(*surge_s)
    load = {
        node_id: SimulatedPool(lambda at_s: rate(at_s) / len(node_ids), SMALL, nodes=1, seed=11 + index)
        for index, node_id in enumerate(node_ids)
    }
    settings = ControlPlaneSettings(tick_s=TICK_S, window_s=TICK_S, scrape_interval_s=TICK_S / 2)
    collector = _SimulatedCollector()
    ticker = Ticker(engine, settings, clock, collector)
    driver = Driver(engine, clock, collector, heartbeat_timeout_s=settings.heartbeat_timeout_s)
    while clock.at < begin + timedelta(seconds=past_s) or (_under_way(engine) and clock.at < now):
        clock.at += timedelta(seconds=TICK_S)
        seen = {node_id: replace(node.window(TICK_S), window_end=clock.at) for node_id, node in load.items()}
        collector.add(seen)
        _report(engine, seen, clock.at)
        ticker.tick(pool_id, clock.at, epoch)
        ticker.tell_nodes(clock.at, Terms.everywhere(epoch))
        _drive(engine, driver, epoch)
        _apply(engine, load, clock.at)
    with session_scope(engine) as session:
        for kind in ("controller", "worker"):
            processes.beat(session, name=f"{kind}@test:1", kind=kind, now=now, detail={"tick_s": 0.08})
        found = decisions.list_decisions(session, limit=50, pool_id=pool_id, outcome=Outcome.APPLY)
        assert found and found[0].rollout_id, "the surge led to no rollout"
        assert not rollouts.active_rollouts(session), "a rollout did not end in time"
        return SeededFleet(pool_id, node_ids, found[0].id, found[0].rollout_id, found[-1].id)


def _join(engine: Engine, now: datetime) -> tuple[str, tuple[str, ...]]:
    with session_scope(engine) as session:
        nodes = [
            fleets.register_node(
                session,
                registration(
                    f"node-{number}",
                    pool="demo",
                    model=MODEL,
                    url=f"http://127.0.0.1:{8700 + number}",
                    settings=SMALL,
                    step_profile=StepProfile(cells=tuple(probe_cells())),
                ),
                now=now,
            ).node
            for number in (1, 2)
        ]
        pool_id = nodes[0].pool_id
        decisions.put_policy(session, pool_id, demo_policy(), based_on=0, actor="trimtab up", now=now)
        return pool_id, tuple(node.id for node in nodes)


def _report(engine: Engine, windows: Mapping[str, Observation], now: datetime) -> None:
    """What each node's heartbeat says."""
    with session_scope(engine) as session:
        for node_id, seen in windows.items():
            node = fleets.get_node(session, node_id)
            beat = heartbeat_of(
                node,
                state=NodeState.READY,
                running=round(seen.running or 0),
                waiting=round(seen.waiting or 0),
                kv_usage=min(1.0, (seen.running or 0) * 0.03),
                applied_step=node.applied_step,
            )
            fleets.heartbeat(session, node, beat, now=now)


def _drive(engine: Engine, driver: Driver, epoch: int) -> None:
    for rollout_id in _under_way(engine):
        driver.drive(rollout_id, epoch)


def _under_way(engine: Engine) -> list[str]:
    with session_scope(engine, read_only=True) as session:
        return [row.id for row in rollouts.active_rollouts(session)]


def _apply(engine: Engine, load: dict[str, SimulatedPool], now: datetime) -> None:
    """A node that is behind takes what is desired of it, and says so."""
    with session_scope(engine) as session:
        for node_id, simulated in load.items():
            node = fleets.get_node(session, node_id)
            push = fleets.desired_push(session, node)
            if push is None or push.generation <= node.observed_generation:
                continue
            simulated.settings = push.settings
            ack = SettingsAck(
                generation=push.generation,
                epoch=push.epoch,
                outcome=AckOutcome.APPLIED,
                applied_step=round(simulated.now_s * 20),
                config_hash=push.config_hash,
                settings=push.settings,
            )
            fleets.record_ack(session, node_id, ack, now)


def _together(nodes: list[Observation], at: datetime, window_s: float) -> Observation:
    """The pool's window: amounts add up, of a quantile the worst node's is taken, the rest is averaged."""
    facts: dict[str, float] = {}
    for field in fields(Observation):
        if field.name in {"window_end", "window_s", "quality"}:
            continue
        values = [value for node in nodes if (value := getattr(node, field.name)) is not None]
        if not values:
            continue
        if field.name in _SUMS:
            facts[field.name] = sum(values)
        else:
            facts[field.name] = max(values) if "_p95" in field.name else sum(values) / len(values)
    up = facts.pop("nodes_up", 0.0)
    return Observation(window_end=at, window_s=window_s, quality=nodes[0].quality, nodes_up=round(up), **facts)
