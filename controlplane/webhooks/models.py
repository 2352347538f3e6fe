"""Tables: endpoints, what is owed to each of them (deliveries), and every attempt at it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId, Id
from controlplane.ids import new_id
from controlplane.sealing import SealedList, SealedText


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookEndpoint(Base):
    """Where somebody wants to be told what happens.

    signing_secrets: `{"secret", "created_at", "expires_at"}`, the newest first; while one replaces another both sign. credential:
    what the receiver asks for beside (a routing key, a header). Both, and the address, whose path is a chat's secret, are sealed.
    failures: attempts without a success since the last one; held_until: nothing is sent before.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    url: Mapped[str] = mapped_column(SealedText)
    format: Mapped[str] = mapped_column(String(16))
    kinds: Mapped[list[str]]
    pool_id: Mapped[str | None] = mapped_column(ForeignKey("pools.id"))
    min_severity: Mapped[str] = mapped_column(String(16))
    coalesce_s: Mapped[int] = mapped_column(default=0)
    signing_secrets: Mapped[list[dict[str, Any]]] = mapped_column(SealedList)
    credential: Mapped[str | None] = mapped_column(SealedText)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(128))
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(default=0)
    held_until: Mapped[datetime | None]
    last_delivered_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """Events that one endpoint is owed, as they were when they happened. `id` is the `webhook-id`, the same at each attempt.

    attempts: of the present run through the schedule; total_attempts: ever. next_at: when the schedule wants the next one.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index("ix_webhook_deliveries_state", "state", "ended_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    kind: Mapped[str] = mapped_column(String(64))
    events: Mapped[list[dict[str, Any]]]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    next_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    total_attempts: Mapped[int] = mapped_column(default=0)
    outbox_id: Mapped[int | None] = mapped_column(BigId)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class WebhookAttempt(Base):
    """One request and what came back. Without what is secret of the headers; bodies as text, the answer's cut."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery_id_number", "delivery_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id"))
    number: Mapped[int]
    at: Mapped[datetime]
    duration_ms: Mapped[int]
    request_headers: Mapped[dict[str, Any]]
    request_body: Mapped[str] = mapped_column(Text)
    status: Mapped[int | None]
    response_headers: Mapped[dict[str, Any]]
    response_body: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)


class WebhookReader(Base):
    """One row: the position in the history up to which endpoints have been considered."""

    __tablename__ = "webhook_reader"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigId)
