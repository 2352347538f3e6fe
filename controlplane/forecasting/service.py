"""Forecasts of a pool: made from its recent windows, saved, and read back."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.forecasting.forecaster import Forecast, ForecastPoint
from controlplane.forecasting.models import ForecastRecord
from controlplane.forecasting.projection import MODEL as FLUID
from controlplane.forecasting.selection import select_forecast
from controlplane.forecasting.series import series_of
from controlplane.telemetry.observation import Observation

METRICS = ("offered_rps", "ttft_p95_s", "itl_p95_s")
# How much past the forecasters look at: two seasons of ten minutes. The controller reads so much from SQL.
HISTORY_S = 1200.0

_POINTS: TypeAdapter[tuple[ForecastPoint, ...]] = TypeAdapter(tuple[ForecastPoint, ...])


def forecast_pool(history: Sequence[Observation], *, horizon_s: float) -> dict[str, Forecast]:
    """metric -> forecast over the next `horizon_s` seconds, for each metric that the newest windows (oldest first) know. Pure."""
    found = {}
    for metric in METRICS:
        series = series_of(history, metric)
        if series is not None:
            found[metric] = select_forecast(series, max(1, math.ceil(horizon_s / series.step_s)))
    return found


def save_forecasts(session: Session, pool_id: str, forecasts: Iterable[Forecast]) -> None:
    """Stores each as a row of its own."""
    session.add_all(
        ForecastRecord(
            pool_id=pool_id,
            metric=forecast.metric,
            made_at=forecast.made_at,
            model=forecast.model,
            step_s=forecast.step_s,
            points=_POINTS.dump_python(forecast.points, mode="json"),
            scores=dict(forecast.scores),
        )
        for forecast in forecasts
    )
    session.flush()


def list_forecasts(
    session: Session, pool_id: str, *, metric: str | None = None, before: datetime | None = None, limit: int = 50
) -> list[ForecastRecord]:
    """Newest first."""
    query = select(ForecastRecord).where(ForecastRecord.pool_id == pool_id)
    if metric is not None:
        query = query.where(ForecastRecord.metric == metric)
    if before is not None:
        query = query.where(ForecastRecord.made_at < before)
    return list(session.scalars(query.order_by(ForecastRecord.made_at.desc(), ForecastRecord.id.desc()).limit(limit)))


def latest_forecasts(session: Session, pool_id: str) -> dict[str, ForecastRecord]:
    """metric -> the newest forecast of it; of two made at once, the fluid projection, which knows the capacity."""
    found: dict[str, ForecastRecord] = {}
    for metric in METRICS:
        rows = list_forecasts(session, pool_id, metric=metric, limit=2)
        if rows:
            newest = [row for row in rows if row.made_at == rows[0].made_at]
            found[metric] = next((row for row in newest if row.model == FLUID), newest[0])
    return found


def points_of(row: ForecastRecord) -> list[dict[str, Any]]:
    """Points as stored: {at, q10, q50, q90}, times RFC 3339."""
    return row.points
