"""What was foreseen, newest first."""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.dependencies import ReadSession
from controlplane.fleets import service as fleets
from controlplane.forecasting import service
from controlplane.forecasting.schemas import ForecastOut
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_cursor, encode_cursor

router = APIRouter(tags=["forecasts"], dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))


class ForecastMetric(StrEnum):
    """What is forecast."""

    OFFERED_RPS = "offered_rps"
    TTFT_P95_S = "ttft_p95_s"
    ITL_P95_S = "itl_p95_s"


Metric = Annotated[ForecastMetric | None, Query(description="one metric only")]


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
