"""What was foreseen, newest first, and how right it was."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.dependencies import Now, ReadSession
from controlplane.fleets import service as fleets
from controlplane.forecasting import service
from controlplane.forecasting.schemas import (
    ForecastMeritOut,
    ForecastOut,
    ForecastQualityOut,
    HorizonQualityOut,
    SpikeWarningOut,
    WarningQualityOut,
)
from controlplane.forecasting.spikes.quality import warning_quality
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_cursor, decode_int_cursor, encode_cursor

router = APIRouter(tags=["forecasts"], dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))


WARNINGS_PAST = timedelta(days=14)


class ForecastMetric(StrEnum):
    """What is forecast."""

    OFFERED_RPS = "offered_rps"
    TTFT_P95_S = "ttft_p95_s"
    ITL_P95_S = "itl_p95_s"


Metric = Annotated[ForecastMetric | None, Query(description="one metric only")]
Span = Annotated[int, Query(ge=60, le=21600, description="how far back the forecasts go that are scored, in seconds")]


@router.get("/pools/{pool_id}/forecasts")
def list_forecasts(
    pool_id: str, session: ReadSession, metric: Metric = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[ForecastOut]:
    """A pool's forecasts, newest first."""
    pool = fleets.get_pool(session, pool_id)
    before = None if cursor is None else decode_cursor(cursor)
    wanted = None if metric is None else metric.value
    rows = service.list_forecasts(session, pool.id, metric=wanted, before_id=before, limit=limit + 1)
    page = [ForecastOut.of(row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


@router.get("/pools/{pool_id}/forecasts/latest")
def latest_forecasts(pool_id: str, session: ReadSession) -> dict[str, ForecastOut]:
    """The newest forecast of each metric, by metric."""
    pool = fleets.get_pool(session, pool_id)
    return {metric: ForecastOut.of(row) for metric, row in service.latest_forecasts(session, pool.id).items()}


@router.get("/pools/{pool_id}/forecasts/quality")
def forecast_quality(
    pool_id: str,
    session: ReadSession,
    now: Now,
    metric: ForecastMetric = ForecastMetric.OFFERED_RPS,
    span_s: Span = 3600,
) -> ForecastQualityOut:
    """How right a pool's forecasts have been 1, 5 and 15 minutes ahead. Latencies are foreseen under the settings in force, so
    a change in between counts against them; the load is not."""
    pool = fleets.get_pool(session, pool_id)
    since = now - timedelta(seconds=span_s)
    found = service.forecast_quality(session, pool.id, metric.value, since, now)
    horizons = [HorizonQualityOut.of(horizon) for horizon in found]
    told = warning_quality(session, now - WARNINGS_PAST, now, [pool.id]).get(pool.id, [])
    warnings = [WarningQualityOut.of(setting) for setting in told]
    merit = service.kept_merits(session, pool.id).get(pool.id) if metric is ForecastMetric.OFFERED_RPS else None
    return ForecastQualityOut(
        metric=metric.value,
        since=since,
        until=now,
        horizons=horizons,
        warnings=warnings,
        merit=None if merit is None else ForecastMeritOut.of(*merit),
    )


@router.get("/pools/{pool_id}/forecasts/warnings")
def list_spike_warnings(
    pool_id: str, session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> Page[SpikeWarningOut]:
    """A pool's warnings of latency spikes, newest first, with what came of each."""
    pool = fleets.get_pool(session, pool_id)
    rows = service.list_spike_warnings(session, pool.id, before_id=decode_int_cursor(cursor), limit=limit + 1)
    page = [SpikeWarningOut.of(row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(str(page[-1].id)) if len(rows) > limit else None)
