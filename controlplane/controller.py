"""The controller process: observes, decides and moves rollouts for the pools whose lease it holds.

Thin on purpose: leadership, two loops and their bookkeeping. What is decided stands in `tick.py` and `rollouts/reconcile.py`.
"""

import secrets
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from controlplane import models as models
from controlplane import schema
from controlplane.clock import Clock, SystemClock
from controlplane.db import engine_of, session_scope
from controlplane.errors import Conflict, ControlPlaneError, Fenced
from controlplane.fleets import service as fleets
from controlplane.fleets.intake import read_intake
from controlplane.leadership import Leadership
from controlplane.memory import settle
from controlplane.mesh.keeper import MeshKeeper
from controlplane.processes import service as processes
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from controlplane.rollouts import convergence, stuck
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.drive import Driver
from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.collector import Collector
from controlplane.telemetry.prometheus import Prometheus, PrometheusUnavailable
from controlplane.tick import StageFailed, Ticker, TickOverran
from controlplane.training_loop import SpikeTraining

log = structlog.get_logger(__name__)

BEAT_S = 5.0
# A loop that has made no headway for so long hangs in something that has no deadline of its own: a fresh process is the way out.
STUCK_S = 120.0
# A window is observed so long after its end: the last scrape in it must have arrived.
LAG_S = 0.5
STOP_S = 10.0


class Changes:
    """Logs a condition when it begins, changes or ends, and not in between; knows which hold now."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    def set(self, about: str, trouble: str | None) -> None:
        before = self._now.get(about)
        if trouble == before:
            return
        if trouble is None:
            del self._now[about]
            log.info("trouble_over", about=about)
        else:
            self._now[about] = trouble
            if before is None:
                log.warning("trouble", about=about, reason=trouble)

    def current(self) -> dict[str, str]:
        return dict(self._now)


class Controller:
    """One process. `start()` returns at once; `check()` raises when a loop has died or hangs; `stop()` ends in good order."""

    def __init__(self, settings: ControlPlaneSettings, engine: Engine, clock: Clock) -> None:
        self._settings, self._engine, self._clock = settings, engine, clock
        self.name = processes.process_name("controller")
        holder = f"{self.name}:{secrets.token_hex(4)}"
        self.leadership = Leadership(engine, holder, settings.lease_s)
        # Each loop has one of its own, which it closes with itself.
        self._clients = [Prometheus.of(settings) for _ in range(2)]
        collectors = [Collector(client, scrape_interval_s=settings.scrape_interval_s) for client in self._clients]
        self._ticker = Ticker(engine, settings, clock, collectors[0])
        self._driver = Driver(engine, clock, collectors[1], heartbeat_timeout_s=settings.heartbeat_timeout_s)
        self._mesh = MeshKeeper(engine, clock, settings)
        self._training = SpikeTraining(engine, settings.database_url, clock)
        self._stop = threading.Event()
        self._troubles = Changes()
        self._tick_s: float | None = None
        self._coverage: dict[str, dict[str, float]] = {}
        self._round_at: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._loop, args=("reconcile", self.reconcile), name="reconcile", daemon=True),
            threading.Thread(target=self._loop, args=("tick", self.tick), name="tick", daemon=True),
        ]

    def start(self) -> None:
        self.leadership.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        self._training.stop()
        self.leadership.stop()
        for client in self._clients:
            client.close()

    def check(self) -> None:
        """Raises RuntimeError when a loop is no longer alive or has not come round for too long."""
        if not self.leadership.is_alive:
            raise RuntimeError("the thread that keeps the lease has died; its log says why")
        for thread in self._threads:
            age_s = time.monotonic() - self._round_at.get(thread.name, time.monotonic())
            if not thread.is_alive():
                raise RuntimeError(f"the loop {thread.name} has died; its log says why")
            # A round begins with waiting, for as long as a person has set.
            if age_s > STUCK_S + max(self._settings.tick_s, self._settings.reconcile_s):
                raise RuntimeError(f"the loop {thread.name} has not come round for {age_s:.0f} s")

    def detail(self) -> dict[str, Any]:
        """What people see of this process in `GET /system`."""
        terms = self.leadership.terms
        found: dict[str, Any] = {
            "leading": bool(terms), "shards": len(terms.epochs), "epoch": max(terms.epochs.values(), default=None),
            "troubles": self._troubles.current(),
        }  # fmt: skip
        if coverage := self._coverage:
            found["coverage"] = coverage
        return found if self._tick_s is None else {**found, "tick_s": round(self._tick_s, 3)}

    # One round of each loop -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Every pool that is ours, once. What fails in one pool does not touch the next."""
        self._sleep_until_next_tick()
        terms = self.leadership.terms
        if not terms or self._stop.is_set():
            return
        began = time.monotonic()
        at = datetime.fromtimestamp(self._clock.now().timestamp() // self._settings.tick_s * self._settings.tick_s, UTC)
        with session_scope(self._engine, read_only=True) as session:
            pools = {pool.id: pool.name for pool in fleets.list_pools(session) if terms.of(pool.id) is not None}
        self._ticker.forget_all_but(pools)
        self._ticker.begin(pools, at, terms)
        for pool_id, name in pools.items():
            self._round_at["tick"] = time.monotonic()  # many slow pools are headway, too
            epoch = self.leadership.terms.of(pool_id)
            if epoch is None:
                continue  # handed on, or lost, since the round began
            try:
                ticked = self._ticker.tick(pool_id, at, epoch)
            except Fenced as error:
                self._fenced("tick", error)
                continue
            except (StageFailed, TickOverran) as error:
                self._failed(f"tick of pool {name}", error)
                continue
            self._troubles.set(f"tick of pool {name}", None)
            self._troubles.set("prometheus", ticked.unavailable)
            if ticked.rollout_id is not None:
                log.info("rollout_begun", pool=name, rollout_id=ticked.rollout_id, reason=ticked.decision.reason.value)
        self._tick_s = time.monotonic() - began
        self._coverage = {pool_id: dict(of_pool) for pool_id, of_pool in self._ticker.coverage().items()}
        try:
            self._ticker.tell_nodes(at, self.leadership.terms)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 (charts of nodes lack a window; decisions have been made)
            self._failed("windows of nodes", error)
        else:
            self._troubles.set("windows of nodes", None)
        self._ticker.race_ahead(at + timedelta(seconds=self._settings.tick_s))

    def reconcile(self) -> None:
        """Silent nodes, strays, and every rollout that is under way, in the pools that are ours."""
        self._stop.wait(self._settings.reconcile_s)
        terms = self.leadership.terms
        if not terms or self._stop.is_set():
            return
        self._note_silence(terms)
        self._converge(terms)
        self._tell_stuck(terms)
        with session_scope(self._engine, read_only=True) as session:
            found = sorted(rollouts.active_rollouts(session), key=rollouts.is_urgent, reverse=True)
        active = {rollout.id: rollout.pool_id for rollout in found if terms.of(rollout.pool_id) is not None}
        for rollout_id, pool_id in active.items():
            self._round_at["reconcile"] = time.monotonic()
            epoch = self.leadership.terms.of(pool_id)
            if epoch is not None:
                self._drive(rollout_id, epoch)
        self._keep_mesh(self.leadership.terms)
        self._keep_training(self.leadership.terms)
        for about in self._troubles.current():
            if about.startswith("rollout ") and about.removeprefix("rollout ") not in active:
                self._troubles.set(about, None)

    def _drive(self, rollout_id: str, epoch: int) -> None:
        about = f"rollout {rollout_id}"
        try:
            self._driver.drive(rollout_id, epoch)
        except Fenced as error:
            self._fenced("reconcile", error)
        except Conflict:
            return  # somebody wrote in between: the next round sees what
        except PrometheusUnavailable as error:
            self._troubles.set(about, error.detail)
        except Exception as error:  # noqa: BLE001 (one rollout's trouble is kept and told, and the others go on)
            self._failed(about, error)
        else:
            self._troubles.set(about, None)

    def _keep_mesh(self, terms: Terms) -> None:
        try:
            owed = self._mesh.keep(terms)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 (traffic's trouble must not stop the rollouts)
            self._failed("mesh routes", error)
        else:
            self._troubles.set("mesh routes", None)
            if owed:
                log.info("mesh_routes_owed", routes=owed)

    def _keep_training(self, terms: Terms) -> None:
        try:
            self._training.keep(terms)
        except Exception as error:  # noqa: BLE001 (the model in force goes on)
            self._failed("spike training", error)
        else:
            self._troubles.set("spike training", None)

    def _note_silence(self, terms: Terms) -> None:
        now, timeout_s = self._clock.now(), self._settings.heartbeat_timeout_s
        with session_scope(self._engine, read_only=True) as session:
            lost = read_intake(session).newly_lost(session, timeout_s)
            pools = {node.pool_id for node in lost if terms.of(node.pool_id) is not None}
        if pools:
            with session_scope(self._engine) as session:
                shards.assert_leads_all(session, terms, pools)
                fleets.mark_unreachable(session, now=now, timeout_s=timeout_s, pool_ids=pools)

    def _tell_stuck(self, terms: Terms) -> None:
        now = self._clock.now()
        with session_scope(self._engine, read_only=True) as session:
            ours = [each for each in stuck.find_stuck(session, now) if terms.of(each.pool_id) is not None]
            untold = stuck.untold(session, ours)
        if untold:
            with session_scope(self._engine) as session:
                stuck.tell(session, untold, terms=terms, now=now)
            log.error("rollouts_stuck", rollouts=[each.rollout_id for each in untold])

    def _converge(self, terms: Terms) -> None:
        now = self._clock.now()
        with session_scope(self._engine, read_only=True) as session:
            strays = convergence.find_strays(
                session, now=now, heartbeat_timeout_s=self._settings.heartbeat_timeout_s, terms=terms
            )
        if strays:
            with session_scope(self._engine) as session:
                owed = convergence.converge(session, strays, terms=terms, now=now)
            if owed:
                log.info("pushes_owed_again", nodes=owed)

    # What keeps them going --------------------------------------------------------------------------------------------

    def _loop(self, name: str, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            self._round_at[name] = time.monotonic()
            try:
                work()
            except Fenced as error:
                self._fenced(name, error)
            except Exception as error:  # noqa: BLE001 (the loop outlives what a round raises; it is kept and told)
                self._failed(f"loop {name}", error)
                self._stop.wait(self._settings.reconcile_s)
            else:
                self._troubles.set(f"loop {name}", None)

    def _fenced(self, loop: str, error: Fenced) -> None:
        log.info("fenced", loop=loop, detail=error.detail)
        self.leadership.lose(error)

    def _failed(self, about: str, error: Exception) -> None:
        """Kept and told once; the traceback is for bugs of ours, not for what depends on others."""
        trouble = f"{type(error).__name__}: {error}"
        if about not in self._troubles.current() and not isinstance(error, SQLAlchemyError | ControlPlaneError):
            log.error("failed", about=about, exc_info=error)
        self._troubles.set(about, trouble)

    def _sleep_until_next_tick(self) -> None:
        now, tick_s = self._clock.now().timestamp(), self._settings.tick_s
        self._stop.wait((now // tick_s + 1) * tick_s + LAG_S - now if (now % tick_s) > LAG_S else LAG_S - now % tick_s)


def run_controller(settings: ControlPlaneSettings) -> int:
    """Runs until SIGINT or SIGTERM, and hands the lease back. Returns the exit code: 1 when a loop died or hung.

    Raises SchemaOlder, SchemaNewer, or Unavailable before anything has begun.
    """
    engine = engine_of(settings)
    schema.check(engine)
    clock = SystemClock()
    controller = Controller(settings, engine, clock)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    started_at = clock.now()
    controller.start()
    settle()
    log.info("controller_started", name=controller.name, tick_s=settings.tick_s, reconcile_s=settings.reconcile_s)
    code = 0
    while not stopping.is_set():
        try:
            controller.check()
        except RuntimeError as error:
            log.critical("controller_stuck", reason=str(error))
            code = 1
            break
        _beat(engine, clock, controller, started_at)
        stopping.wait(BEAT_S)
    controller.stop()
    _sign_off(engine, controller.name)
    engine.dispose()
    log.info("controller_stopped")
    return code


def _beat(engine: Engine, clock: Clock, controller: Controller, started_at: datetime) -> None:
    try:
        with session_scope(engine) as session:
            processes.beat(
                session,
                name=controller.name,
                kind="controller",
                now=clock.now(),
                detail=controller.detail(),
                started_at=started_at,
            )
    except SQLAlchemyError as error:
        log.warning("beat_failed", error=str(error))


def _sign_off(engine: Engine, name: str) -> None:
    try:
        with session_scope(engine) as session:
            processes.sign_off(session, name)
    except SQLAlchemyError as error:
        log.warning("sign_off_failed", error=str(error))  # the row grows old by itself
