"""Forecasts of a pool: made from its recent windows, saved, and read back."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import BindParameter, Select, bindparam, or_, select
from sqlalchemy.orm import Session

from controlplane.db import table_of
from controlplane.forecasting.forecaster import Forecast, Forecaster, ForecastPoint
from controlplane.forecasting.guard import Guard
from controlplane.forecasting.merit import Merit, restored
from controlplane.forecasting.models import ForecastBandRecord, ForecastRecord, SpikeWarningRecord
from controlplane.forecasting.quality import Foreseen, HorizonQuality, quality
from controlplane.forecasting.selection import FORECASTERS, select_forecast
from controlplane.forecasting.series import all_series_of
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation

# Forecasts of whole minutes, which reach fifteen of them ahead, stand beside the others under this name.
LONG = "_by_minute"
METRICS = ("offered_rps", "ttft_p95_s", "itl_p95_s")
# How much past the forecasters look at: two seasons of ten minutes. The controller reads so much from SQL.
HISTORY_S = 1200.0

_POINTS: TypeAdapter[tuple[ForecastPoint, ...]] = TypeAdapter(tuple[ForecastPoint, ...])


def forecast_pool(
    history: Sequence[Observation],
    *,
    horizon_s: float,
    metrics: Iterable[str] = METRICS,
    forecasters: Callable[[str], Sequence[Forecaster]] = lambda metric: FORECASTERS,
    guard: Guard | None = None,
) -> dict[str, Forecast]:
    """metric -> forecast over the next `horizon_s` seconds, for each metric that the newest windows (oldest first) know.

    forecasters: the methods that race for a metric; theirs is all that is remembered from call to call. guard: ends what hangs.
    """
    found = {}
    wanted = list(metrics)
    for metric, series in zip(wanted, all_series_of(history, wanted), strict=True):
        if series is not None:
            steps = max(1, math.ceil(horizon_s / series.step_s))
            found[metric] = select_forecast(series, steps, forecasters(metric), guard)
    return found


def save_forecasts(session: Session, pool_id: str, forecasts: Iterable[Forecast]) -> None:
    """Stores each as a row of its own."""
    rows = [
        {
            "pool_id": pool_id,
            "metric": forecast.metric,
            "made_at": forecast.made_at,
            "model": forecast.model,
            "step_s": forecast.step_s,
            "points": _POINTS.dump_python(forecast.points, mode="json"),
            "scores": dict(forecast.scores),
        }
        for forecast in forecasts
    ]
    if rows:
        # Rows, not objects: a controller of a hundred pools writes five hundred at every tick.
        session.execute(table_of(ForecastRecord).insert(), rows)


def list_forecasts(
    session: Session, pool_id: str, *, metric: str | None = None, before_id: str | None = None, limit: int = 50
) -> list[ForecastRecord]:
    """Newest first: ids are made in the order of time."""
    query = select(ForecastRecord).where(ForecastRecord.pool_id == pool_id)
    if metric is not None:
        query = query.where(ForecastRecord.metric == metric)
    if before_id is not None:
        query = query.where(ForecastRecord.id < before_id)
    return list(session.scalars(query.order_by(ForecastRecord.id.desc()).limit(limit)))


def latest_forecasts(session: Session, pool_id: str) -> dict[str, ForecastRecord]:
    """metric -> the newest forecast of it."""
    rows = {row.metric: row for row in session.scalars(_latest(), {"pool_id": pool_id})}
    return {metric: rows[metric] for metric in METRICS if metric in rows}


@functools.cache
def _latest() -> Select[ForecastRecord]:
    """A look at the end of the index for each metric."""
    pool_id: BindParameter[str] = bindparam("pool_id")
    newest = (
        select(ForecastRecord.id)
        .where(ForecastRecord.pool_id == pool_id, ForecastRecord.metric == metric)
        .order_by(ForecastRecord.id.desc())
        .limit(1)
        .scalar_subquery()
        for metric in METRICS
    )
    return select(ForecastRecord).where(or_(*(ForecastRecord.id == one for one in newest)))


def fresh_forecasts(session: Session, pool_id: str, since: datetime) -> dict[str, ForecastRecord]:
    """`latest_forecasts` of those made since then, in one query."""
    query = select(ForecastRecord).where(ForecastRecord.pool_id == pool_id, ForecastRecord.made_at >= since)
    return {row.metric: row for row in session.scalars(query.order_by(ForecastRecord.made_at, ForecastRecord.id))}


def list_spike_warnings(
    session: Session, pool_id: str, *, before_id: int | None = None, limit: int = 50
) -> list[SpikeWarningRecord]:
    """Newest first."""
    query = select(SpikeWarningRecord).where(SpikeWarningRecord.pool_id == pool_id)
    if before_id is not None:
        query = query.where(SpikeWarningRecord.id < before_id)
    return list(session.scalars(query.order_by(SpikeWarningRecord.id.desc()).limit(limit)))


def forecast_quality(
    session: Session, pool_id: str, metric: str, since: datetime, until: datetime
) -> list[HorizonQuality]:
    """Per horizon, of the forecasts of `metric` made in [since, until], against the windows that have come by `until`."""
    query = select(ForecastRecord.made_at, ForecastRecord.step_s, ForecastRecord.points).where(
        ForecastRecord.pool_id == pool_id,
        ForecastRecord.metric.in_((metric, metric + LONG)),
        ForecastRecord.made_at >= since,
        ForecastRecord.made_at <= until,
    )
    forecasts = [Foreseen(made_at, step_s, points) for made_at, step_s, points in session.execute(query)]
    longest_s = max((forecast.step_s for forecast in forecasts), default=0.0)
    # The window in which the first forecast was made ends at its very moment: reach back one step to have it.
    seen = telemetry.recent(session, pool_id, since - timedelta(seconds=longest_s), until)
    return quality(forecasts, seen, metric)


def kept_merits(session: Session, pool_id: str | None = None) -> dict[str, tuple[datetime, Merit]]:
    """By pool: what planning on its forecasts of the load has been worth, and when that was kept. pool_id: of one pool only."""
    query = select(ForecastBandRecord.pool_id, ForecastBandRecord.at, ForecastBandRecord.merit)
    query = query.where(ForecastBandRecord.metric == "offered_rps")
    if pool_id is not None:
        query = query.where(ForecastBandRecord.pool_id == pool_id)
    found = {}
    for of_pool, at, merit in session.execute(query):
        with suppress(ValueError):  # the controller that next leads the pool tells of what cannot be read
            if merit is not None:
                found[of_pool] = at, restored(merit)
    return found
