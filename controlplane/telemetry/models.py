"""Table: `observations`."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId, Id


class ObservationRecord(Base):
    """One window of facts about a pool (`node_id` absent) or a node; `facts` is `telemetry.observation.Observation` as JSON.

    `subject_id` is the node's id or else the pool's, so that one unique key covers both.
    """

    __tablename__ = "observations"
    __table_args__ = (
        UniqueConstraint("subject_id", "window_end"),
        Index("ix_observations_pool_id_window_end", "pool_id", "window_end"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    subject_id: Mapped[str] = mapped_column(Id)
    pool_id: Mapped[str] = mapped_column(Id)
    node_id: Mapped[str | None] = mapped_column(Id)
    window_end: Mapped[datetime]
    window_s: Mapped[float]
    quality: Mapped[str] = mapped_column(String(16))
    facts: Mapped[dict[str, Any]]
