"""Writes history and debts in the caller's transaction: either both the change and its event stand, or neither."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_all_if_absent, insert_if_absent
from controlplane.events.models import Event, OutboxItem


def record(
    session: Session,
    *,
    kind: str,
    message: str,
    at: datetime,
    severity: str = "info",
    actor: str = "system",
    pool_id: str | None = None,
    node_id: str | None = None,
    rollout_id: str | None = None,
    decision_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Adds a row to the history. `kind` is an `EventKind`, `message` a sentence for people. It gets its id when the session is
    flushed, many in one statement."""
    event = Event(
        at=at,
        kind=str(kind),
        severity=str(severity),
        actor=actor,
        message=message,
        pool_id=pool_id,
        node_id=node_id,
        rollout_id=rollout_id,
        decision_id=decision_id,
        data=data or {},
    )
    session.add(event)
    return event


def owe(
    session: Session,
    *,
    kind: str,
    key: str,
    payload: dict[str, Any],
    at: datetime,
    available_at: datetime | None = None,
) -> OutboxItem:
    """Notes a side effect that is due from `available_at` on. The same key twice returns the row that already stands."""
    insert_if_absent(
        session,
        OutboxItem,
        kind=kind,
        key=key,
        payload=payload,
        created_at=at,
        available_at=available_at or at,
        attempts=0,
    )
    return session.scalars(select(OutboxItem).where(OutboxItem.key == key)).one()


def owe_all(session: Session, *, kind: str, payloads: Mapping[str, Mapping[str, Any]], at: datetime) -> None:
    """`owe` for many at once: key to payload. A key that stands already stays as it is."""
    if payloads:
        rows = [
            {"kind": kind, "key": key, "payload": dict(payload), "created_at": at, "available_at": at, "attempts": 0}
            for key, payload in payloads.items()
        ]
        insert_all_if_absent(session, OutboxItem, rows)


def list_events(
    session: Session,
    *,
    limit: int,
    before_id: int | None = None,
    pool_id: str | None = None,
    node_id: str | None = None,
    rollout_id: str | None = None,
    kind: str | None = None,
) -> list[Event]:
    """Newest first, older than `before_id`, narrowed by whatever is given. `kind` may end in `*`: `rollout.*`."""
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Event.id < before_id)
    for column, value in ((Event.pool_id, pool_id), (Event.node_id, node_id), (Event.rollout_id, rollout_id)):
        if value is not None:
            query = query.where(column == value)
    if kind is not None:
        matches = Event.kind.startswith(kind[:-1], autoescape=True) if kind.endswith("*") else Event.kind == kind
        query = query.where(matches)
    return list(session.scalars(query))


def events_after(session: Session, after_id: int, *, limit: int) -> list[Event]:
    """Oldest first, newer than `after_id`: what the live stream hands on."""
    return list(session.scalars(select(Event).where(Event.id > after_id).order_by(Event.id).limit(limit)))
