"""Endpoints: made, changed, given new secrets, tested, removed; and their deliveries, looked at and sent again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets.service import get_pool
from controlplane.ids import new_id
from controlplane.webhooks import dial, fan_out, filters
from controlplane.webhooks.formats.all import TAKES_CREDENTIAL, Format
from controlplane.webhooks.models import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from controlplane.webhooks.schemas import WebhookChange, WebhookIn
from controlplane.webhooks.signing import new_signing_secret

TEST_KIND = "webhook.test"
MOST_ENDPOINTS = 100
MOST_RESENT = 1000
_MAY_BE_NONE = ("pool_id", "credential")
_CHANGEABLE = ("name", "url", "kinds", "pool_id", "min_severity", "coalesce_s", "credential")


class NoSuchWebhook(NotFound):
    title = "No such webhook"


class NoSuchDelivery(NotFound):
    title = "No such delivery"


class NameTaken(Conflict):
    title = "The name is taken"


class StillOnItsWay(Conflict):
    title = "Still on its way"


def list_endpoints(session: Session) -> list[WebhookEndpoint]:
    return list(session.scalars(select(WebhookEndpoint).order_by(WebhookEndpoint.name)))


def get_endpoint(session: Session, webhook_id: str, *, lock: bool = False) -> WebhookEndpoint:
    """Raises NoSuchWebhook."""
    found = session.get(WebhookEndpoint, webhook_id, with_for_update=lock or None)
    if found is None:
        raise NoSuchWebhook(f"there is no webhook {webhook_id!r}: GET /api/v1/webhooks lists them")
    return found


def create_endpoint(
    session: Session, wish: WebhookIn, rules: dial.Rules, *, by: str, now: datetime
) -> tuple[WebhookEndpoint, str]:
    """The endpoint and its signing secret, told this once. Raises Invalid, Forbidden, NameTaken; NotFound for the pool."""
    if wish.pool_id is not None:
        get_pool(session, wish.pool_id)
    others = list_endpoints(session)
    if len(others) >= MOST_ENDPOINTS:
        raise Invalid(f"there are {MOST_ENDPOINTS} webhooks, and no more fit: remove one")
    _check(
        wish.name,
        wish.url,
        wish.kinds,
        rules,
        {other.name for other in others},
        wish.format,
        wish.credential is not None,
    )
    secret = new_signing_secret()
    endpoint = WebhookEndpoint(
        id=new_id(), **wish.model_dump(exclude={"credential"}), signing_secrets=[_kept(secret, now)],
        credential=None if wish.credential is None else wish.credential.get_secret_value(), created_at=now, created_by=by,
        version=1, failures=0,
    )  # fmt: skip
    session.add(endpoint)
    session.flush()
    _note(session, EventKind.WEBHOOK_CREATED, endpoint, f"{by} made webhook {endpoint.name}", by, now)
    return endpoint, secret


def change_endpoint(
    session: Session, endpoint: WebhookEndpoint, wish: WebhookChange, rules: dial.Rules, *, by: str, now: datetime
) -> None:
    """Changes what is named. Enabled again, it starts without the failures of before. Raises as `create_endpoint`."""
    given = wish.model_dump(exclude_unset=True)
    given = {name: value for name, value in given.items() if value is not None or name in _MAY_BE_NONE}
    if given.get("pool_id") is not None:
        get_pool(session, given["pool_id"])
    others = {other.name for other in list_endpoints(session) if other.id != endpoint.id}
    has = wish.credential is not None if "credential" in given else endpoint.credential is not None
    _check(
        wish.name or endpoint.name,
        wish.url or endpoint.url,
        wish.kinds or endpoint.kinds,
        rules,
        others,
        endpoint.format,
        has,
    )
    if "credential" in given:
        given["credential"] = None if wish.credential is None else wish.credential.get_secret_value()
    changed = [name for name in _CHANGEABLE if name in given and getattr(endpoint, name) != given[name]]
    for name in changed:
        setattr(endpoint, name, given[name])
    if changed:
        endpoint.version += 1
        # What is new about it may be secret, like a credential or the path of a chat's address: only names are told.
        words = f"{by} changed {', '.join(changed)} of webhook {endpoint.name}"
        _note(session, EventKind.WEBHOOK_CHANGED, endpoint, words, by, now)
    if wish.enabled is not None and wish.enabled != (endpoint.disabled_at is None):
        _switch(session, endpoint, wish.enabled, by, now)
    session.flush()


def remove_endpoint(session: Session, endpoint: WebhookEndpoint, *, by: str, now: datetime) -> None:
    """With its deliveries. What is on its way may still arrive."""
    mine = select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == endpoint.id)
    session.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(mine)))
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id))
    _note(session, EventKind.WEBHOOK_REMOVED, endpoint, f"{by} removed webhook {endpoint.name}", by, now)
    session.delete(endpoint)


def rotate_secret(session: Session, endpoint: WebhookEndpoint, *, keep_s: int, by: str, now: datetime) -> str:
    """A new signing secret, told this once. The ones before sign too for `keep_s` more seconds."""
    secret, end = new_signing_secret(), now + timedelta(seconds=keep_s)
    kept = []
    for old in endpoint.signing_secrets:
        ends = end if old["expires_at"] is None else min(end, datetime.fromisoformat(old["expires_at"]))
        if ends > now:
            kept.append({**old, "expires_at": ends.isoformat()})
    endpoint.signing_secrets = [_kept(secret, now), *kept[:4]]
    endpoint.version += 1
    words = f"{by} made a new signing secret for webhook {endpoint.name}"
    _note(session, EventKind.WEBHOOK_SECRET_ROTATED, endpoint, words, by, now)
    return secret


def send_test(session: Session, endpoint: WebhookEndpoint, *, by: str, now: datetime) -> WebhookDelivery:
    """A delivery that says that it is a test, and is marked as one in the log."""
    told = {
        "id": 0, "kind": TEST_KIND, "at": now.isoformat().replace("+00:00", "Z"), "severity": str(Severity.WARNING), "actor": by,
        "message": f"A test of webhook {endpoint.name}, asked for by {by}", "pool_id": endpoint.pool_id, "node_id": None,
        "rollout_id": None, "decision_id": None, "details": {},
    }  # fmt: skip
    return fan_out.owe(session, endpoint, [told], now, by_hand=True)


def list_deliveries(
    session: Session, webhook_id: str, *, limit: int, before: str | None = None, state: DeliveryState | None = None
) -> list[WebhookDelivery]:
    """Newest first, older than the id `before`."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == webhook_id)
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    return list(session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit)))


def get_delivery(session: Session, delivery_id: str, *, lock: bool = False) -> WebhookDelivery:
    """Raises NoSuchDelivery."""
    found = session.get(WebhookDelivery, delivery_id, with_for_update=lock or None)
    if found is None:
        raise NoSuchDelivery(f"there is no delivery {delivery_id!r}; ended ones are kept for 30 days")
    return found


def attempts_of(session: Session, delivery_id: str) -> Sequence[WebhookAttempt]:
    """In their order."""
    mine = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return session.scalars(mine.order_by(WebhookAttempt.number)).all()


def redeliver(session: Session, delivery: WebhookDelivery, now: datetime) -> None:
    """Sends it again now, under the same `webhook-id`, from the schedule's start. One that waits for its next attempt is brought
    forward. Raises StillOnItsWay while an attempt is being made or due."""
    if delivery.state == DeliveryState.WAITING and (delivery.next_at is None or delivery.next_at <= now):
        raise StillOnItsWay("an attempt is being made: look again in a moment")
    delivery.state, delivery.ended_at, delivery.attempts = DeliveryState.WAITING, None, 0
    fan_out.schedule(session, delivery, now, now, by_hand=True)


def recover(session: Session, endpoint: WebhookEndpoint, since: datetime, now: datetime) -> int:
    """Sends again whatever has failed since then, at most MOST_RESENT, the oldest first. Returns how many."""
    failed = (
        select(WebhookDelivery)
        .where(
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.state == DeliveryState.FAILED,
            WebhookDelivery.created_at >= since,
        )
        .order_by(WebhookDelivery.id)
        .limit(MOST_RESENT)
        .with_for_update()
    )
    found = list(session.scalars(failed))
    for delivery in found:
        delivery.state, delivery.ended_at, delivery.attempts = DeliveryState.WAITING, None, 0
        fan_out.schedule(session, delivery, now, now)
    return len(found)


def shown_url(endpoint: WebhookEndpoint) -> str:
    """The address without what may be a secret in it: a chat's address lets whoever knows its path write there."""
    parts = urlsplit(endpoint.url)
    if endpoint.format == "standard":
        return f"{parts.scheme}://{parts.netloc}{parts.path}" + ("?…" if parts.query else "")
    return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path.strip("/") or parts.query else "")


def _check(
    name: str, url: str, kinds: Sequence[str], rules: dial.Rules, taken: set[str], form: str, has_credential: bool
) -> None:
    try:
        dial.check_typed(url, rules)
    except dial.Forbidden as error:
        raise dial.Forbidden(f"url: {error.detail}", errors=[{"field": "url", "message": error.detail}]) from None
    if strange := filters.unknown(kinds):
        words = f"no event is called {', '.join(map(repr, strange))}: give kinds like 'rollout.completed', 'rollout.*' or '*'"
        raise Invalid(f"kinds: {words}", errors=[{"field": "kinds", "message": words}])
    if (form == Format.PAGERDUTY) > has_credential or has_credential > (form in TAKES_CREDENTIAL):
        words = "give the routing key" if form == Format.PAGERDUTY else f"the format {form} takes none"
        raise Invalid(f"credential: {words}", errors=[{"field": "credential", "message": words}])
    if name in taken:
        words = f"there is a webhook {name!r} already"
        raise NameTaken(f"name: {words}", errors=[{"field": "name", "message": words}])


def _switch(session: Session, endpoint: WebhookEndpoint, on: bool, by: str, now: datetime) -> None:
    endpoint.version += 1
    if on:
        endpoint.disabled_at = endpoint.disabled_reason = endpoint.held_until = None
        endpoint.failures = 0
        _note(session, EventKind.WEBHOOK_ENABLED, endpoint, f"{by} enabled webhook {endpoint.name}", by, now)
    else:
        endpoint.disabled_at, endpoint.disabled_reason = now, f"by {by}"
        _note(session, EventKind.WEBHOOK_DISABLED, endpoint, f"{by} disabled webhook {endpoint.name}", by, now)


def _kept(secret: str, now: datetime) -> dict[str, Any]:
    return {"secret": secret, "created_at": now.isoformat(), "expires_at": None}


def _note(session: Session, kind: EventKind, endpoint: WebhookEndpoint, message: str, by: str, now: datetime) -> None:
    events.record(
        session,
        kind=kind,
        message=message,
        at=now,
        actor=by,
        pool_id=endpoint.pool_id,
        data={"webhook_id": endpoint.id},
    )
