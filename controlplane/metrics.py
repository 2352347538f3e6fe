"""Our own metrics, `controlplane_*`: read from SQL at each scrape, so that they are right whichever process did the work."""

from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from controlplane.clock import Clock
from controlplane.db import session_scope
from controlplane.decisions.models import DecisionRecord
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.forecast_metrics import forecast_metrics
from controlplane.pool_metrics import Terms, pool_metrics
from controlplane.processes import service as processes
from controlplane.rollouts.models import Rollout
from controlplane.settings import ControlPlaneSettings
from controlplane.system import leaders_out, outbox_out

log = structlog.get_logger(__name__)


def register(
    registry: CollectorRegistry, engine: Engine, settings: ControlPlaneSettings, clock: Clock, *, version: str
) -> None:
    """Adds the process's own figures (CPU, memory, open files) and the collector over SQL."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(SqlCollector(engine, settings, clock, version=version))


class SqlCollector(Collector):
    """Without an answering database `controlplane_database_up` is 0 and the rest is absent, not zero."""

    def __init__(self, engine: Engine, settings: ControlPlaneSettings, clock: Clock, *, version: str) -> None:
        self._engine = engine
        self._timeout_s, self._tick_s = settings.heartbeat_timeout_s, settings.tick_s
        self._clock = clock
        self._version = version

    def describe(self) -> Iterable[Metric]:
        return []  # nothing is read when it is registered

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("controlplane_build", "Version of the control plane.", {"version": self._version})
        try:
            with session_scope(self._engine, read_only=True) as session:
                found = [*self._counts(session), *self._gauges(session)]
        except SQLAlchemyError as error:
            log.warning("metrics_without_database", error=str(error))
            found = []
        yield GaugeMetricFamily(
            "controlplane_database_up", "1 while the database answers.", value=1.0 if found else 0.0
        )
        yield from found

    def _counts(self, session: Session) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "controlplane_decisions", "Decisions made, repetitions included.", labels=("outcome", "reason")
        )
        columns = (DecisionRecord.outcome, DecisionRecord.reason)
        query = select(*columns, func.sum(DecisionRecord.repeats)).group_by(*columns)
        for outcome, reason, count in session.execute(query):
            decisions.add_metric((outcome, reason), float(count))
        yield decisions
        rollouts = GaugeMetricFamily("controlplane_rollouts", "Rollouts by the phase they are in.", labels=("phase",))
        for phase, count in session.execute(select(Rollout.phase, func.count()).group_by(Rollout.phase)):
            rollouts.add_metric((phase,), count)
        yield rollouts
        # `events` only grows but for pruning of what is old: a drop is a reset to Prometheus, as after a restart.
        events = CounterMetricFamily("controlplane_events", "Events recorded, by kind.", labels=("kind",))
        # Each kind stands at 0 before its first event: to Prometheus a series that begins at 1 has not grown.
        counts = dict.fromkeys((kind.value for kind in EventKind), 0)
        for kind, count in session.execute(select(Event.kind, func.count()).group_by(Event.kind)):
            counts[kind] = count
        for kind, count in counts.items():
            events.add_metric((kind,), count)
        yield events

    def _gauges(self, session: Session) -> Iterator[Metric]:
        now = self._clock.now()
        yield from pool_metrics(session, Terms(now, self._timeout_s, self._tick_s))
        yield from forecast_metrics(session, now)
        outbox = outbox_out(session, now)
        yield GaugeMetricFamily("controlplane_outbox_open", "Side effects owed and not yet done.", value=outbox.open)
        yield GaugeMetricFamily("controlplane_outbox_dead", "Side effects given up.", value=outbox.dead)
        yield GaugeMetricFamily(
            "controlplane_outbox_oldest_age_seconds", "Age of the oldest open one.", value=outbox.oldest_age_s or 0.0
        )
        leaders, unled_pools = leaders_out(session)
        yield GaugeMetricFamily(
            "controlplane_leader",
            "1 while controllers lead every pool.",
            value=float(bool(leaders) and not unled_pools),
        )
        yield GaugeMetricFamily("controlplane_pools_unled", "Pools that no controller leads.", value=unled_pools)
        epoch = max((leader.epoch for leader in leaders), default=0)
        yield GaugeMetricFamily("controlplane_leader_epoch", "Newest epoch of the leases.", value=epoch)
        yield GaugeMetricFamily(
            "controlplane_pools_frozen", "Pools that may not change.", value=fleets.count_frozen(session)
        )
        yield GaugeMetricFamily(
            "controlplane_everything_frozen",
            "1 while no pool may change, whichever there are.",
            value=float(fleets.general_freeze(session) is not None),
        )
        alive = GaugeMetricFamily("controlplane_processes_alive", "Processes heard of lately.", labels=("kind",))
        ticks: list[float] = []
        counts: dict[str, int] = {"api": 0, "controller": 0, "worker": 0}
        for process in processes.list_processes(session, now):
            if not processes.is_alive(process, now):
                continue
            counts[process.kind] = counts.get(process.kind, 0) + 1
            if process.kind == "controller" and process.detail.get("leading") and "tick_s" in process.detail:
                ticks.append(float(process.detail["tick_s"]))
        for kind, count in counts.items():
            alive.add_metric((kind,), count)
        yield alive
        help_text = "Duration of the last tick of the controller that took longest."
        yield GaugeMetricFamily("controlplane_tick_seconds", help_text, value=max(ticks, default=None))
