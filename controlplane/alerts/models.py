"""Tables: rules (which alerts lead to what), alerts as they came in, and what each of them set off."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, Id
from controlplane.ids import new_id


class Action(StrEnum):
    """pause: the rollout under way waits. roll_back: it is given up, or the last completed one taken back. freeze: the pool may
    not change. protect: decisions count the pool as threatened. Of these a resolved alert lifts all but the roll-back, which is
    done."""

    PAUSE = "pause"
    ROLL_BACK = "roll_back"
    FREEZE = "freeze"
    PROTECT = "protect"


class EffectState(StrEnum):
    """set: by this alert, and in force as far as we know. joined: another alert had set it, this one wants it kept. none: nothing
    to do, or not possible; `detail` says why. done: nothing to lift. lifted: taken back, or left to others."""

    SET = "set"
    JOINED = "joined"
    NONE = "none"
    DONE = "done"
    LIFTED = "lifted"


class AlertRule(Base):
    """matchers: as in Alertmanager, all of which must match. pool_id: where to act; None: in the pool that the label names."""

    __tablename__ = "alert_rules"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    matchers: Mapped[list[str]]
    action: Mapped[str] = mapped_column(String(16))
    pool_id: Mapped[str | None] = mapped_column(ForeignKey("pools.id"))
    enabled: Mapped[bool]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(128))


class Alert(Base):
    """One firing of one alert, however often and by however many instances it is told."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("source", "fingerprint", "starts_at"),
        Index("ix_alerts_resolved_at_id", "resolved_at", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    source: Mapped[str] = mapped_column(String(16))
    fingerprint: Mapped[str] = mapped_column(String(64))
    starts_at: Mapped[datetime]
    name: Mapped[str] = mapped_column(String(200))
    labels: Mapped[dict[str, Any]]
    annotations: Mapped[dict[str, Any]]
    pool_id: Mapped[str | None] = mapped_column(Id)
    group_key: Mapped[str] = mapped_column(Text)
    generator_url: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime]
    received_by: Mapped[str] = mapped_column(String(128))
    last_seen_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class AlertEffect(Base):
    """What one rule did about one alert. holder: the actor under whose name it stands in the rollout; frozen_at: the freeze that
    is meant, since a later one is somebody else's."""

    __tablename__ = "alert_effects"
    __table_args__ = (UniqueConstraint("alert_id", "rule_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    alert_id: Mapped[str] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"))
    rule_id: Mapped[str] = mapped_column(Id)
    rule_name: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(16))
    pool_id: Mapped[str | None] = mapped_column(Id, index=True)
    rollout_id: Mapped[str | None] = mapped_column(Id)
    state: Mapped[str] = mapped_column(String(16))
    holder: Mapped[str | None] = mapped_column(String(128))
    frozen_at: Mapped[datetime | None]
    at: Mapped[datetime]
    detail: Mapped[str] = mapped_column(Text)
    lifted_at: Mapped[datetime | None]
