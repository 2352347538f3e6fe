"""Table: `forecasts`."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, Id
from controlplane.ids import new_id


class ForecastRecord(Base):
    """One forecast of one metric of a pool. `points` is a list of {at, q10, q50, q90}; `scores` the pinball loss per model."""

    __tablename__ = "forecasts"
    __table_args__ = (Index("ix_forecasts_pool_id_made_at", "pool_id", "made_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    pool_id: Mapped[str] = mapped_column(Id)
    metric: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    model: Mapped[str] = mapped_column(String(64))
    step_s: Mapped[float]
    points: Mapped[list[dict[str, Any]]]
    scores: Mapped[dict[str, Any]] = mapped_column(default=dict)
