"""What was foreseen beside what came, and which model foresaw it."""

import math
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.dependencies import Now, ReadSession
from controlplane.fleets import service as fleets
from controlplane.forecasting.endpoints import ForecastMetric, Span
from controlplane.forecasting.models import ForecastRecord
from controlplane.forecasting.quality import Foreseen
from controlplane.forecasting.track import Named, stints, track
from controlplane.problem import declared
from controlplane.schemas import Out, UtcTime
from controlplane.telemetry import service as telemetry

router = APIRouter(tags=["forecasts"], dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))

# More than a chart is wide, and no more points than are read in a moment: each forecast holds one per window of its horizon.
_MOST_POINTS, _MOST_STINTS = 720, 50

Horizon = Annotated[float, Query(ge=1, le=3600, description="how far ahead, in seconds")]


class TrackedOut(Out):
    at: UtcTime
    model: str
    q10: float
    q50: float
    q90: float
    came: float | None = Field(description="what it then was; null where nothing was measured, or not yet")


class StintOut(Out):
    """A stretch in which one model won the race among the forecasters."""

    model: str
    since: UtcTime
    until: UtcTime
    forecasts: int


class ForecastTrackOut(Out):
    """Forecasts of one metric so far ahead, oldest first, beside what came."""

    metric: str
    horizon_s: float
    since: UtcTime
    until: UtcTime
    points: list[TrackedOut] = Field(description="thinned out evenly to at most 720")
    stints: list[StintOut] = Field(description="which model forecast when, newest first, at most 50")
    scores: dict[str, float] = Field(description="of the newest forecast: past pinball loss per model, lower is better")


@router.get("/pools/{pool_id}/forecasts/track")
def track_forecasts(
    pool_id: str,
    session: ReadSession,
    now: Now,
    metric: ForecastMetric = ForecastMetric.OFFERED_RPS,
    horizon_s: Horizon = 60.0,
    span_s: Span = 3600,
) -> ForecastTrackOut:
    """What was foreseen `horizon_s` ahead, beside what came, and which model was in use when."""
    pool = fleets.get_pool(session, pool_id)
    since = now - timedelta(seconds=span_s)
    made = _made(session, pool.id, metric.value, since, now)
    stride = max(1, math.ceil(len(made) / _MOST_POINTS))
    forecasts = _read(session, [row_id for row_id, _, _ in made[::stride]])
    newest = session.get(ForecastRecord, made[-1][0]) if made else None
    seen = telemetry.recent(session, pool.id, since, now)
    return ForecastTrackOut(
        metric=metric.value,
        horizon_s=horizon_s,
        since=since,
        until=now,
        points=[TrackedOut.model_validate(point) for point in track(forecasts, seen, metric.value, horizon_s)],
        stints=[
            StintOut.model_validate(each) for each in stints([(model, at) for _, model, at in made])[:_MOST_STINTS]
        ],
        scores={} if newest is None else newest.scores,
    )


def _made(
    session: Session, pool_id: str, metric: str, since: datetime, until: datetime
) -> list[tuple[str, str, datetime]]:
    """Of all forecasts id, model and moment, oldest first: without their points, which are kilobytes each."""
    query = select(ForecastRecord.id, ForecastRecord.model, ForecastRecord.made_at).where(
        ForecastRecord.pool_id == pool_id,
        ForecastRecord.metric == metric,
        ForecastRecord.made_at >= since,
        ForecastRecord.made_at <= until,
    )
    rows = session.execute(query.order_by(ForecastRecord.made_at, ForecastRecord.id))
    return [(row_id, model, made_at) for row_id, model, made_at in rows]


def _read(session: Session, ids: list[str]) -> list[Named]:
    """The forecasts themselves, oldest first."""
    columns = (ForecastRecord.model, ForecastRecord.made_at, ForecastRecord.step_s, ForecastRecord.points)
    query = select(*columns).where(ForecastRecord.id.in_(ids)).order_by(ForecastRecord.made_at, ForecastRecord.id)
    return [
        Named(model, Foreseen(made_at, step_s, points)) for model, made_at, step_s, points in session.execute(query)
    ]
