"""What `controlplane_*` metrics say of each pool: its nodes, its objective, what is foreseen, and how many nodes it wants.

A pool costs a handful of indexed reads of small columns: a scrape of many pools stays cheap. What is old is absent, not zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from controlplane.decisions import scaling
from controlplane.decisions.service import current_policy, pools_burning, pools_with_breach_in_sight
from controlplane.decisions.step_memory.store import figures_in_force
from controlplane.fleets import service as fleets
from controlplane.fleets.health import NodeHealth
from controlplane.fleets.models import Pool
from controlplane.forecasting.service import fresh_forecasts

# Two fleets may each have a pool of one name.
_POOL = ("fleet", "pool")
# A pool that serves nobody teaches nothing: its figures are no news for a while, and then they are old.
_LEARNED_WITHIN = timedelta(hours=1)
_LEVEL = ("precision", "kv_precision", "pruning")
_FORECASTS = {
    "offered_rps": ("controlplane_forecast_requests_per_second", "Offered load that is forecast."),
    "ttft_p95_s": ("controlplane_forecast_ttft_p95_seconds", "Time to first token that is forecast."),
    "itl_p95_s": ("controlplane_forecast_itl_p95_seconds", "Inter-token latency that is forecast."),
}
_QUANTILES = {"q10": "0.1", "q50": "0.5", "q90": "0.9"}
# How far ahead a series of its own is kept for, where the policy looks so far.
AHEAD_S = (60, 300, 900)


@dataclass(frozen=True, slots=True)
class Terms:
    """heartbeat_timeout_s: silence after which a node is unreachable. tick_s: how often decisions are made."""

    now: datetime
    heartbeat_timeout_s: float
    tick_s: float


class _Families:
    def __init__(self) -> None:
        self.nodes = _gauge("controlplane_nodes", "Nodes by pool and health.", "health")
        self.in_sync = _gauge("controlplane_nodes_in_sync", "Nodes that have what is desired.")
        self.quarantined = _gauge("controlplane_nodes_quarantined", "Nodes that get no changes for a while.")
        self.in_sight = _gauge("controlplane_breach_in_sight", "1 while a breach of the pool's SLO is predicted.")
        self.breach = _gauge("controlplane_breach_probability", "That the SLO is broken within the horizon, 0 to 1.")
        self.slo_ttft = _gauge("controlplane_slo_ttft_p95_seconds", "The objective: 95th percentile at most.")
        self.slo_itl = _gauge("controlplane_slo_itl_p95_seconds", "The objective: 95th percentile at most.")
        self.slo_errors = _gauge("controlplane_slo_error_ratio", "The objective: share of errors at most.")
        self.attainment = _gauge(
            "controlplane_slo_attainment_ratio", "The objective: share within the latencies above."
        )
        self.burn = _gauge("controlplane_error_budget_burn_rate", "Budget spent over what lasts, in the burn window.")
        self.burning = _gauge("controlplane_slo_burning", "1 from the event slo.burning to slo.recovered.")
        self.wanted = _gauge("controlplane_nodes_wanted", "Nodes that carry the planned load, as KEDA may read it.")
        self.planned = _gauge("controlplane_planned_requests_per_second", "Load that decisions plan for.")
        self.carries = _gauge("controlplane_node_capacity_requests_per_second", "What one node carries as it is set.")
        self.off = _gauge(
            "controlplane_performance_error_ratio", "How far off what was said of steps in force is.", *_LEVEL
        )
        self.learned = _gauge(
            "controlplane_performance_windows", "Windows that the steps in force are known from.", *_LEVEL
        )
        self.forecasts = {name: _gauge(*words, "ahead_s", "quantile") for name, words in _FORECASTS.items()}

    def all(self) -> Iterator[Metric]:
        for family in vars(self).values():
            yield from family.values() if isinstance(family, dict) else (family,)


def pool_metrics(session: Session, terms: Terms) -> Iterator[Metric]:
    """Every family, with the samples of every pool."""
    families = _Families()
    in_sight, burning = pools_with_breach_in_sight(session), pools_burning(session)
    for pool in fleets.list_pools(session):
        here = (pool.fleet.name, pool.name)
        families.in_sight.add_metric(here, float(pool.id in in_sight))
        families.burning.add_metric(here, float(pool.id in burning))
        _nodes(families, here, session, pool, terms)
        _objective(families, here, session, pool)
        _outlook(families, here, session, pool, terms)
        _forecasts(families, here, session, pool, terms)
        _performance(families, here, session, pool, terms)
    yield from families.all()


def _nodes(families: _Families, here: tuple[str, str], session: Session, pool: Pool, terms: Terms) -> None:
    members = fleets.list_nodes(session, pool.id)
    healths = [fleets.node_health(node, terms.now, terms.heartbeat_timeout_s) for node in members]
    for health in NodeHealth:
        families.nodes.add_metric((*here, health.value), healths.count(health))
    families.in_sync.add_metric(here, sum(map(fleets.in_sync, members)))
    families.quarantined.add_metric(here, sum(fleets.is_quarantined(node, terms.now) for node in members))


def _objective(families: _Families, here: tuple[str, str], session: Session, pool: Pool) -> None:
    slo = current_policy(session, pool.id)[0].slo
    families.slo_ttft.add_metric(here, slo.ttft_p95_s)
    families.slo_itl.add_metric(here, slo.itl_p95_s)
    families.slo_errors.add_metric(here, slo.error_rate)
    families.attainment.add_metric(here, slo.attainment)


def _outlook(families: _Families, here: tuple[str, str], session: Session, pool: Pool, terms: Terms) -> None:
    last = scaling.read_outlook(session, pool.id)
    if last is None or scaling.is_stale(last, terms.now, terms.tick_s):
        return
    if last.breach_probability is not None:
        families.breach.add_metric(here, last.breach_probability)
    if last.burn is not None and last.burn["rate"] is not None:
        families.burn.add_metric(here, last.burn["rate"])
    advice = scaling.advise(last, terms.now, terms.tick_s)
    if isinstance(advice, str):
        return
    families.wanted.add_metric(here, advice.nodes_wanted)
    families.planned.add_metric(here, advice.planned_rps)
    families.carries.add_metric(here, advice.node_rps)


def _forecasts(families: _Families, here: tuple[str, str], session: Session, pool: Pool, terms: Terms) -> None:
    since = terms.now - timedelta(seconds=scaling.STALE_TICKS * terms.tick_s)
    for metric, forecast in fresh_forecasts(session, pool.id, since).items():
        for ahead_s in AHEAD_S:
            step = round(ahead_s / forecast.step_s)
            if not 1 <= step <= len(forecast.points):
                continue
            point = forecast.points[step - 1]
            for name, quantile in _QUANTILES.items():
                families.forecasts[metric].add_metric((*here, str(ahead_s), quantile), float(point[name]))


def _performance(families: _Families, here: tuple[str, str], session: Session, pool: Pool, terms: Terms) -> None:
    for figures in figures_in_force(session, pool.id, terms.now - _LEARNED_WITHIN):
        level = (*here, figures.precision, figures.kv_precision, f"{figures.pruning:g}")
        families.learned.add_metric(level, figures.windows)
        if figures.error_ratio is not None:
            families.off.add_metric(level, figures.error_ratio)


def _gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=(*_POOL, *labels))
