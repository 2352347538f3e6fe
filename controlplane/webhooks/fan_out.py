"""From the history to what each endpoint is owed. Follows the chain's positions, so no event is missed and none comes twice."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.events import chain
from controlplane.events import service as events
from controlplane.events.kinds import Severity
from controlplane.events.models import Event
from controlplane.ids import new_id
from controlplane.webhooks.filters import EventFilter
from controlplane.webhooks.formats.all import is_good_news, is_told, takes_several, tellings
from controlplane.webhooks.formats.message import snapshot
from controlplane.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint, WebhookReader

OUTBOX_KIND = "webhook"
MOST_TOGETHER = 50  # events in one delivery
_READER = 1


def has_unread(session: Session) -> bool:
    """Whether `fan_out` has anything to consider: a read only."""
    reader = session.get(WebhookReader, _READER)
    return bool(chain.events_from(session, 0 if reader is None else reader.position, limit=1))


def fan_out(session: Session, now: datetime, *, limit: int = 500) -> int:
    """Owes the next events of the history to the endpoints that want them. Returns how many events were considered."""
    insert_if_absent(session, WebhookReader, id=_READER, position=0)
    reader = session.scalars(select(WebhookReader).where(WebhookReader.id == _READER).with_for_update()).one()
    rows = chain.events_from(session, reader.position, limit=limit)
    if not rows:
        return 0
    wanting = list(session.scalars(select(WebhookEndpoint).where(WebhookEndpoint.disabled_at.is_(None))))
    for row in rows:
        for endpoint in wanting:
            if _wants(endpoint, row):
                _tell(session, endpoint, row, now)
    reader.position = rows[-1].position or reader.position
    session.flush()
    return len(rows)


def owe(
    session: Session, endpoint: WebhookEndpoint, told: Sequence[Mapping[str, Any]], now: datetime, *, after_s: float = 0,
    by_hand: bool = False,
) -> WebhookDelivery:  # fmt: skip
    """A new delivery of these event snapshots, due after `after_s`. by_hand: as `schedule`."""
    delivery = WebhookDelivery(
        id=new_id(), endpoint_id=endpoint.id, kind=str(told[0]["kind"]), events=[dict(event) for event in told],
        state=DeliveryState.WAITING, created_at=now, attempts=0, total_attempts=0,
    )  # fmt: skip
    session.add(delivery)
    schedule(session, delivery, now, now + timedelta(seconds=after_s), by_hand=by_hand)
    return delivery


def schedule(
    session: Session, delivery: WebhookDelivery, now: datetime, at: datetime, *, by_hand: bool = False
) -> None:
    """Owes the delivery's next attempt. by_hand: goes out although the endpoint is disabled or left alone just now."""
    number = delivery.total_attempts + 1
    key = f"{OUTBOX_KIND}:{delivery.id}:{number}" + (f":{now.isoformat()}" if by_hand else "")
    payload = {"delivery_id": delivery.id, "number": number, "by_hand": by_hand}
    item = events.owe(session, kind=OUTBOX_KIND, key=key, payload=payload, at=now, available_at=at)
    delivery.outbox_id, delivery.next_at = item.id, at
    session.flush()


def _wants(endpoint: WebhookEndpoint, row: Event) -> bool:
    if row.at < endpoint.created_at or row.data.get("webhook_id") == endpoint.id:
        return False  # what became of an endpoint is told to the others: to itself it would be an echo
    chosen = EventFilter(endpoint.kinds, endpoint.pool_id, endpoint.min_severity)
    weight = str(Severity.ERROR) if is_good_news(endpoint.format, row.kind) else row.severity
    return chosen.wants(row.kind, weight, row.pool_id) and is_told(endpoint.format, row.kind, row.severity)


def _tell(session: Session, endpoint: WebhookEndpoint, row: Event, now: datetime) -> None:
    # An error waits for nobody.
    together = endpoint.coalesce_s > 0 and row.severity != Severity.ERROR and takes_several(endpoint.format)
    waiting = _collecting(session, endpoint, now) if together else None
    if waiting is None:
        for told in tellings(endpoint.format, snapshot(row)):
            owe(session, endpoint, [told], now, after_s=endpoint.coalesce_s if together else 0)
    else:
        waiting.events = [*waiting.events, snapshot(row)]
        session.flush()


def _collecting(session: Session, endpoint: WebhookEndpoint, now: datetime) -> WebhookDelivery | None:
    """A delivery of the endpoint's that has not gone out yet, with room for one more event."""
    query = (
        select(WebhookDelivery)
        .where(
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.state == DeliveryState.WAITING,
            WebhookDelivery.total_attempts == 0,
            WebhookDelivery.next_at > now,
        )
        .order_by(WebhookDelivery.id.desc())
        .limit(1)
        .with_for_update()
    )
    found = session.scalars(query).first()
    return found if found is not None and len(found.events) < MOST_TOGETHER else None
