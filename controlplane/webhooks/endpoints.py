"""Webhooks: everybody signed in sees them and their deliveries, an admin decides who is told what."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from controlplane.accounts.dependencies import Admin, Operator, require
from controlplane.accounts.roles import Role
from controlplane.dependencies import Now, ProcessSettings, ReadSession, WriteSession
from controlplane.paging import Paged
from controlplane.preconditions import IfMatch, check, etag
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_cursor, encode_cursor
from controlplane.webhooks import service
from controlplane.webhooks.delivering import valid_secrets
from controlplane.webhooks.dial import Rules
from controlplane.webhooks.models import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from controlplane.webhooks.schemas import (
    AttemptOut,
    DeliveryDetail,
    DeliveryOut,
    Recovered,
    Recovery,
    SecretRotation,
    SigningSecret,
    WebhookChange,
    WebhookCreated,
    WebhookIn,
    WebhookOut,
)

router = APIRouter(tags=["webhooks"])
_VIEWER = [require(Role.VIEWER)]


def _rules(settings: ProcessSettings) -> Rules:
    return Rules(settings.webhook_allowed_networks, settings.webhook_timeout_s)


DialRules = Annotated[Rules, Depends(_rules)]


@router.get("/webhooks", dependencies=_VIEWER, responses=declared(401, 403))
def list_webhooks(session: ReadSession, now: Now) -> Page[WebhookOut]:
    """All webhooks by name, without their secrets."""
    return Page(items=[WebhookOut(**_fields(row, now)) for row in service.list_endpoints(session)])


@router.post("/webhooks", status_code=201, responses=declared(401, 403, 404, 409, 422))
def create_webhook(
    body: WebhookIn, who: Admin, session: WriteSession, now: Now, rules: DialRules, response: Response
) -> WebhookCreated:
    """Makes a webhook. Its signing secret is in this answer only."""
    endpoint, secret = service.create_endpoint(session, body, rules, by=who.name, now=now)
    response.headers["ETag"] = _tag(endpoint)
    return WebhookCreated(**_fields(endpoint, now), signing_secret=secret)


@router.get("/webhooks/{webhook_id}", dependencies=_VIEWER, responses=declared(401, 403, 404, 422))
def get_webhook(webhook_id: str, session: ReadSession, now: Now, response: Response) -> WebhookOut:
    """One webhook, without its secrets."""
    endpoint = service.get_endpoint(session, webhook_id)
    response.headers["ETag"] = _tag(endpoint)
    return WebhookOut(**_fields(endpoint, now))


@router.patch("/webhooks/{webhook_id}", responses=declared(401, 403, 404, 409, 412, 422))
def change_webhook(
    webhook_id: str, body: WebhookChange, who: Admin, session: WriteSession, now: Now, rules: DialRules, response: Response,
    if_match: IfMatch = None,
) -> WebhookOut:  # fmt: skip
    """Changes what is sent along; `enabled` switches it off and on."""
    endpoint = service.get_endpoint(session, webhook_id, lock=True)
    check(if_match, _tag(endpoint), what=f"webhook {endpoint.name}")
    service.change_endpoint(session, endpoint, body, rules, by=who.name, now=now)
    response.headers["ETag"] = _tag(endpoint)
    return WebhookOut(**_fields(endpoint, now))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=declared(401, 403, 404, 412, 422))
def remove_webhook(webhook_id: str, who: Admin, session: WriteSession, now: Now, if_match: IfMatch = None) -> None:
    """Removes a webhook with the log of its deliveries."""
    endpoint = service.get_endpoint(session, webhook_id, lock=True)
    check(if_match, _tag(endpoint), what=f"webhook {endpoint.name}")
    service.remove_endpoint(session, endpoint, by=who.name, now=now)


@router.post("/webhooks/{webhook_id}/secret", responses=declared(401, 403, 404, 422))
def rotate_webhook_secret(
    webhook_id: str, body: SecretRotation, who: Admin, session: WriteSession, now: Now
) -> SigningSecret:
    """Makes a new signing secret; for a while the one before signs as well, so that receivers can change over."""
    endpoint = service.get_endpoint(session, webhook_id, lock=True)
    secret = service.rotate_secret(session, endpoint, keep_s=body.keep_s, by=who.name, now=now)
    return SigningSecret(signing_secret=secret)


@router.post("/webhooks/{webhook_id}/test", status_code=202, responses=declared(401, 403, 404, 422))
def test_webhook(webhook_id: str, who: Admin, session: WriteSession, now: Now, response: Response) -> DeliveryOut:
    """Sends an event that says that it is a test."""
    endpoint = service.get_endpoint(session, webhook_id)
    return _accepted(response, service.send_test(session, endpoint, by=who.name, now=now))


@router.post("/webhooks/{webhook_id}/recover", status_code=202, responses=declared(401, 403, 404, 422))
def recover_webhook(webhook_id: str, body: Recovery, _: Operator, session: WriteSession, now: Now) -> Recovered:
    """Sends again whatever has failed since a time, for a receiver that was away for longer than we tried."""
    endpoint = service.get_endpoint(session, webhook_id)
    return Recovered(resent=service.recover(session, endpoint, body.since, now))


@router.get("/webhooks/{webhook_id}/deliveries", dependencies=_VIEWER, responses=declared(401, 403, 404, 422))
def list_webhook_deliveries(
    webhook_id: str, session: ReadSession, paged: Paged, state: DeliveryState | None = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeliveryOut]:  # fmt: skip
    """What was owed to it, newest first."""
    service.get_endpoint(session, webhook_id)
    before = None if cursor is None else decode_cursor(cursor)
    rows = service.list_deliveries(session, webhook_id, limit=limit + 1, before=before, state=state)
    page = [DeliveryOut(**_delivery(row)) for row in rows[:limit]]
    return paged.page(page, encode_cursor(page[-1].id) if len(rows) > limit else None)


@router.get("/webhook-deliveries/{delivery_id}", dependencies=_VIEWER, responses=declared(401, 403, 404, 422))
def get_webhook_delivery(delivery_id: str, session: ReadSession) -> DeliveryDetail:
    """One delivery, with every request that was made and what came back."""
    row = service.get_delivery(session, delivery_id)
    made = [_attempt(each) for each in service.attempts_of(session, delivery_id)]
    return DeliveryDetail(**_delivery(row), events=row.events, attempts_made=made)


@router.post(
    "/webhook-deliveries/{delivery_id}/redeliver", status_code=202, responses=declared(401, 403, 404, 409, 422)
)
def redeliver_webhook(
    delivery_id: str, _: Operator, session: WriteSession, now: Now, response: Response
) -> DeliveryOut:
    """Sends a delivery again now, under the same `webhook-id`."""
    delivery = service.get_delivery(session, delivery_id, lock=True)
    service.redeliver(session, delivery, now)
    return _accepted(response, delivery)


def _accepted(response: Response, delivery: WebhookDelivery) -> DeliveryOut:
    response.headers["Location"] = f"/api/v1/webhook-deliveries/{delivery.id}"
    return DeliveryOut(**_delivery(delivery))


def _tag(endpoint: WebhookEndpoint) -> str:
    return etag("webhook", endpoint.id, endpoint.version)


def _fields(row: WebhookEndpoint, now: Any) -> dict[str, Any]:
    return {
        "id": row.id, "name": row.name, "url": service.shown_url(row), "format": row.format, "kinds": row.kinds,
        "pool_id": row.pool_id, "min_severity": row.min_severity, "coalesce_s": row.coalesce_s,
        "has_credential": row.credential is not None, "secrets": len(valid_secrets(row, now)), "created_at": row.created_at,
        "created_by": row.created_by, "disabled_at": row.disabled_at, "disabled_reason": row.disabled_reason,
        "failures": row.failures, "held_until": row.held_until, "last_delivered_at": row.last_delivered_at,
    }  # fmt: skip


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": row.id, "webhook_id": row.endpoint_id, "kind": row.kind, "num_events": len(row.events), "state": row.state,
        "created_at": row.created_at, "next_at": row.next_at, "ended_at": row.ended_at, "attempts": row.total_attempts,
        "last_status": row.last_status, "last_error": row.last_error,
    }  # fmt: skip


def _attempt(row: WebhookAttempt) -> AttemptOut:
    return AttemptOut.model_validate(row)
