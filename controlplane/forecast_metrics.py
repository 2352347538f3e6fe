"""What `controlplane_*` metrics say of forecasts, held against what came: warnings of spikes, how often bands held, and whether
they have earned the right to act."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.forecasting.service import kept_merits
from controlplane.forecasting.spikes.quality import warning_quality
from controlplane.processes import service as processes

WARNINGS_PAST = timedelta(days=14)
_POOL = ("fleet", "pool")


def forecast_metrics(session: Session, now: datetime) -> Iterator[Metric]:
    """Families by pool; absent where there is nothing to judge by."""
    pools = {pool.id: (pool.fleet.name, pool.name) for pool in fleets.list_pools(session)}
    yield from _warnings(session, pools, now)
    yield _coverage(session, pools, now)
    yield from _merits(session, pools)


def _merits(session: Session, pools: dict[str, tuple[str, str]]) -> Iterator[Metric]:
    may_act = GaugeMetricFamily(
        "controlplane_forecast_may_act", "Whether forecasts of the load have earned the right to act.", labels=_POOL
    )
    cost = GaugeMetricFamily(
        "controlplane_forecast_cost_ratio", "Cost of planning on forecasts over that on the newest load.", labels=_POOL
    )
    for pool_id, (_, merit) in kept_merits(session).items():
        if pool_id not in pools:
            continue
        may_act.add_metric(pools[pool_id], float(merit.may_act))
        if merit.cost_ratio is not None:
            cost.add_metric(pools[pool_id], merit.cost_ratio)
    yield may_act
    yield cost


def _warnings(session: Session, pools: dict[str, tuple[str, str]], now: datetime) -> Iterator[Metric]:
    """Of the last 14 days."""
    labels = (*_POOL, "setting")
    figures = {
        "precision": GaugeMetricFamily(
            "controlplane_spike_warning_precision_ratio", "Right / (right + false) of 14 days.", labels=labels
        ),
        "recall": GaugeMetricFamily(
            "controlplane_spike_warning_recall_ratio", "Spikes warned of 60-600 s ahead / spikes.", labels=labels
        ),
        "lead_s": GaugeMetricFamily(
            "controlplane_spike_warning_lead_seconds", "Median lead of the spikes foreseen.", labels=labels
        ),
        "false_per_day": GaugeMetricFamily(
            "controlplane_spike_warning_false_per_day", "False alarms a day.", labels=labels
        ),
    }
    told = GaugeMetricFamily(
        "controlplane_spike_warnings", "Warnings of 14 days by what came of them.", labels=(*labels, "verdict")
    )
    for pool_id, settings in warning_quality(session, now - WARNINGS_PAST, now).items():
        for found in settings if pool_id in pools else ():
            here = (*pools[pool_id], found.setting.value)
            for verdict, count in found.counts.items():
                told.add_metric((*here, verdict.value), count)
            for name, family in figures.items():
                if (value := getattr(found, name)) is not None:
                    family.add_metric(here, value)
    yield told
    yield from figures.values()


def _coverage(session: Session, pools: dict[str, tuple[str, str]], now: datetime) -> Metric:
    """As the controllers that run count it."""
    coverage = GaugeMetricFamily(
        "controlplane_forecast_coverage_ratio",
        "Share of late loads within their 80 % band, by how far ahead.",
        labels=(*_POOL, "horizon_s"),
    )
    for process in processes.list_processes(session, now):
        if not processes.is_alive(process, now):
            continue
        for pool_id, of_horizon in process.detail.get("coverage", {}).items():
            for horizon, share in of_horizon.items() if pool_id in pools else ():
                coverage.add_metric((*pools[pool_id], horizon), float(share))
    return coverage
