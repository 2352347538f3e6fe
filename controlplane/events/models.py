"""Tables: `events`, the one history read by timeline, audit and live stream; `outbox`, side effects that are owed."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId, Id


class Event(Base):
    """Something that happened. `id` is the sequence that the live stream replays from (`Last-Event-ID`).

    `position` and `hash` are given once it is committed (events/chain.py) and are None until then.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_pool_id_id", "pool_id", "id"),
        Index("ix_events_rollout_id_id", "rollout_id", "id"),
        Index("ix_events_position", "position", unique=True),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(64), index=True)
    severity: Mapped[str] = mapped_column(String(16), default="info")
    actor: Mapped[str] = mapped_column(String(128), default="system")
    message: Mapped[str] = mapped_column(Text)
    pool_id: Mapped[str | None] = mapped_column(Id)
    node_id: Mapped[str | None] = mapped_column(Id, index=True)
    rollout_id: Mapped[str | None] = mapped_column(Id)
    decision_id: Mapped[str | None] = mapped_column(Id)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    position: Mapped[int | None] = mapped_column(BigId)
    hash: Mapped[str | None] = mapped_column(String(64))


class ChainHead(Base):
    """One row: the position and hash of the last event that has them. Its lock is what makes the chain one."""

    __tablename__ = "event_chain"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigId)
    hash: Mapped[str] = mapped_column(String(64))


class OutboxItem(Base):
    """A side effect owed to the world, written in the transaction that causes it.

    A relay publishes a hint (`published_at`) to the queue; whoever handles it claims the row (`claimed_until`), acts, and
    sets `done_at`. A hint that is lost is published again; an item that keeps failing is dead (`dead_at`) and shown.
    """

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_open", "done_at", "dead_at", "available_at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(200), unique=True)
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    available_at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    done_at: Mapped[datetime | None]
    dead_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
