"""Tables: `forecasts`, `forecast_bands`, `spike_warnings`, `spikes`, `spike_models`."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId, Id
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


class ForecastBandRecord(Base):
    """How wide a pool's bands of one metric have to be by their misses so far (`conformal.stored`), and of the load what planning
    on its forecasts has been worth (`merit.stored`; null where that is not counted). It outlives a controller."""

    __tablename__ = "forecast_bands"

    pool_id: Mapped[str] = mapped_column(Id, primary_key=True)
    metric: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime]
    sides: Mapped[list[dict[str, Any]]]
    merit: Mapped[dict[str, Any] | None]


class SpikeWarningRecord(Base):
    """A warning that a latency spike is coming, and how it turned out (`spikes.alarm.Verdict`). `model` names who said so,
    `lead_s` when it was expected, `onset_at` when it came."""

    __tablename__ = "spike_warnings"
    __table_args__ = (
        UniqueConstraint("pool_id", "setting", "at"),
        Index("ix_spike_warnings_pool_id_at", "pool_id", "at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    pool_id: Mapped[str] = mapped_column(Id)
    setting: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    probability: Mapped[float]
    threshold: Mapped[float]
    model: Mapped[str] = mapped_column(String(64))
    lead_s: Mapped[float]
    load_ratio: Mapped[float]
    explanation: Mapped[str] = mapped_column(Text)
    verdict: Mapped[str] = mapped_column(String(16))
    onset_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class SpikeRecord(Base):
    """A spike that came. `watch_lead_s`, `page_lead_s`: of the first warning of that setting that could be acted on."""

    __tablename__ = "spikes"
    __table_args__ = (UniqueConstraint("pool_id", "onset_at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    pool_id: Mapped[str] = mapped_column(Id)
    onset_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    watch_lead_s: Mapped[float | None]
    page_lead_s: Mapped[float | None]


class SpikeModelRecord(Base):
    """A learned risk model: `content` as `spikes.risk.SpikeRisk` writes it, thresholds by pool and setting, and what it was
    measured to be worth out of fold. The newest version is served."""

    __tablename__ = "spike_models"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    made_at: Mapped[datetime]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    thresholds: Mapped[dict[str, Any]] = mapped_column(default=dict)
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
