"""One attempt at a delivery, in two transactions with the request between them: what to send, and what came of it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.events import outbox
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import OutboxItem
from controlplane.webhooks.fan_out import schedule
from controlplane.webhooks.formats.all import RENDER
from controlplane.webhooks.formats.message import Message, Outgoing
from controlplane.webhooks.models import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from controlplane.webhooks.schedule import Verdict, hold_s, judge

MOST_KEPT_BYTES = 4_000
# While one attempt finds out whether a failing receiver is back, the others wait so long for what it finds.
PROBE_S = 20.0
# Where an endpoint's secrets cannot be opened here, another worker, or this one with the key, tries so much later.
UNSEALED_AGAIN_S = 60.0
HIDDEN = "(not shown)"


@dataclass(frozen=True, slots=True)
class Errand:
    """An attempt that is ours to make now."""

    item_id: int
    delivery_id: str
    number: int
    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. status: None when no answer came, and then `error` says why."""

    started_at: datetime
    duration_ms: int
    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    error: str | None = None


def begin(session: Session, item: OutboxItem, now: datetime, base_url: str) -> Errand | None:
    """What to send for a claimed row; None when there is nothing to send, or not now, and the row has been dealt with."""
    endpoint, delivery = _locked(session, item.payload["delivery_id"])
    if endpoint is None or delivery is None or delivery.state != DeliveryState.WAITING:
        outbox.finish(session, item.id, now, note="the delivery has ended")
        return None
    if item.payload["number"] != delivery.total_attempts + 1 or item.id != delivery.outbox_id:
        outbox.finish(session, item.id, now, note="overtaken by another attempt")
        return None
    by_hand = bool(item.payload.get("by_hand"))
    if endpoint.disabled_at is not None and not by_hand:
        _end(delivery, DeliveryState.FAILED, now, f"the endpoint is disabled: {endpoint.disabled_reason}")
        outbox.finish(session, item.id, now, note="the endpoint is disabled")
        return None
    if not by_hand and endpoint.held_until is not None and endpoint.held_until > now:
        outbox.postpone(session, item.id, endpoint.held_until + timedelta(seconds=random.uniform(0.0, 1.0)))
        return None
    secrets = valid_secrets(endpoint, now)
    if not endpoint.url or not secrets:  # sealed by a key that this worker lacks: nothing goes out unsigned
        outbox.postpone(session, item.id, now + timedelta(seconds=UNSEALED_AGAIN_S))
        return None
    if endpoint.failures:
        endpoint.held_until = now + timedelta(seconds=PROBE_S)
    message = Message(
        delivery_id=delivery.id, at=now, url=endpoint.url, events=delivery.events, base_url=base_url,
        signing_secrets=secrets, credential=endpoint.credential,
    )  # fmt: skip
    return Errand(item.id, delivery.id, delivery.total_attempts + 1, RENDER[endpoint.format](message))


def settle(session: Session, errand: Errand, result: Result, now: datetime) -> Verdict | None:
    """Writes down what came of an attempt and what follows. None when the delivery or the attempt has gone meanwhile."""
    endpoint, delivery = _locked(session, errand.delivery_id)
    if endpoint is None or delivery is None or not _is_awaited(delivery, errand.number):
        outbox.finish(session, errand.item_id, now, note="somebody else has made this attempt")
        return None
    delivery.attempts, delivery.total_attempts = delivery.attempts + 1, delivery.total_attempts + 1
    delivery.last_status, delivery.last_error = result.status, _words(result)
    session.add(_attempt(errand, result))
    asked = (result.headers or {}).get("retry-after")
    outcome = judge(result.status, delivery.attempts, now, retry_after=asked)
    outbox.finish(session, errand.item_id, now, note=delivery.last_error)
    match outcome.verdict:
        case Verdict.DELIVERED:
            _end(delivery, DeliveryState.DELIVERED, now, None)
            _note_success(session, endpoint, now)
        case Verdict.RETRY:
            assert outcome.next_at is not None
            _note_failure(endpoint, now, until=outcome.next_at if asked else None)
            schedule(session, delivery, now, outcome.next_at)
        case Verdict.GONE:
            _end(delivery, DeliveryState.FAILED, now, delivery.last_error)
            _note_failure(endpoint, now)
            _disable(session, endpoint, now, "the receiver answered 410: it wants nothing more")
        case Verdict.GIVEN_UP:
            _end(delivery, DeliveryState.FAILED, now, delivery.last_error)
            _note_failure(endpoint, now)
            _tell_failed(session, endpoint, delivery, now)
            if endpoint.last_delivered_at is None or endpoint.last_delivered_at < delivery.created_at:
                _disable(session, endpoint, now, f"nothing has arrived for {delivery.attempts} attempts over days")
    session.flush()
    return outcome.verdict


def _locked(session: Session, delivery_id: str) -> tuple[WebhookEndpoint | None, WebhookDelivery | None]:
    """Both, locked in the order that everybody locks them in: so no two can wait for each other."""
    endpoint_id = session.scalar(select(WebhookDelivery.endpoint_id).where(WebhookDelivery.id == delivery_id))
    if endpoint_id is None:
        return None, None
    endpoint = session.get(WebhookEndpoint, endpoint_id, with_for_update=True)
    return endpoint, session.get(WebhookDelivery, delivery_id, with_for_update=True)


def _is_awaited(delivery: WebhookDelivery, number: int) -> bool:
    return delivery.total_attempts + 1 == number and delivery.state == DeliveryState.WAITING


def valid_secrets(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """The secrets to sign with now, the newest first."""
    return [
        kept["secret"]
        for kept in endpoint.signing_secrets
        if kept["expires_at"] is None or datetime.fromisoformat(kept["expires_at"]) > now
    ]


def _end(delivery: WebhookDelivery, state: DeliveryState, now: datetime, error: str | None) -> None:
    delivery.state, delivery.ended_at, delivery.next_at, delivery.last_error = state, now, None, error


def _note_success(session: Session, endpoint: WebhookEndpoint, now: datetime) -> None:
    endpoint.last_delivered_at = now
    if not endpoint.failures:
        return
    endpoint.failures, endpoint.held_until = 0, None
    # What waited only because the receiver was left alone goes out at once.
    held = select(WebhookDelivery.outbox_id).where(
        WebhookDelivery.endpoint_id == endpoint.id,
        WebhookDelivery.state == DeliveryState.WAITING,
        WebhookDelivery.next_at <= now,
    )
    session.execute(
        update(OutboxItem)
        .where(OutboxItem.id.in_(held), OutboxItem.done_at.is_(None), OutboxItem.available_at > now)
        .values(available_at=now, published_at=None)
        .execution_options(synchronize_session=False)
    )


def _note_failure(endpoint: WebhookEndpoint, now: datetime, *, until: datetime | None = None) -> None:
    endpoint.failures += 1
    endpoint.held_until = max(until or now, now + timedelta(seconds=hold_s(endpoint.failures)))


def _disable(session: Session, endpoint: WebhookEndpoint, now: datetime, reason: str) -> None:
    if endpoint.disabled_at is not None:
        return
    endpoint.disabled_at, endpoint.disabled_reason, endpoint.version = now, reason, endpoint.version + 1
    events.record(
        session, kind=EventKind.WEBHOOK_DISABLED, severity=Severity.WARNING, at=now,
        message=f"Webhook {endpoint.name} is disabled: {reason}", data={"webhook_id": endpoint.id},
    )  # fmt: skip


def _tell_failed(session: Session, endpoint: WebhookEndpoint, delivery: WebhookDelivery, now: datetime) -> None:
    events.record(
        session, kind=EventKind.WEBHOOK_DELIVERY_FAILED, severity=Severity.WARNING, at=now,
        message=f"Gave up a delivery to webhook {endpoint.name} after {delivery.attempts} attempts: {delivery.last_error}",
        data={"webhook_id": endpoint.id, "delivery_id": delivery.id},
    )  # fmt: skip


def _attempt(errand: Errand, result: Result) -> WebhookAttempt:
    shown = {
        name: HIDDEN if name in errand.outgoing.secret_headers else value
        for name, value in errand.outgoing.headers.items()
    }
    return WebhookAttempt(
        delivery_id=errand.delivery_id, number=errand.number, at=result.started_at, duration_ms=result.duration_ms,
        request_headers=shown, request_body=_text(errand.outgoing.shown_body), status=result.status,
        response_headers={name: value[:500] for name, value in list((result.headers or {}).items())[:40]},
        response_body=_text(result.body[:MOST_KEPT_BYTES]), error=result.error,
    )  # fmt: skip


def _words(result: Result) -> str | None:
    if result.error is not None:
        return result.error
    assert result.status is not None
    if 200 <= result.status < 300:
        return None
    where = " (redirects are not followed)" if 300 <= result.status < 400 else ""
    return f"the receiver answered {result.status}{where}"


def _text(body: bytes) -> str:
    return body.decode(errors="replace").replace("\x00", "\N{SYMBOL FOR NULL}")
