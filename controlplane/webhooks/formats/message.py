"""What every format is made from, and what it makes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controlplane.events.models import Event

MOST_DETAIL_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class Message:
    """events: at least one, oldest first, as `snapshot` made them. at: of this attempt. base_url: of the web app."""

    delivery_id: str
    at: datetime
    url: str
    events: Sequence[Mapping[str, Any]]
    base_url: str
    signing_secrets: Sequence[str] = ()
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One POST. secret_headers: those whose values nobody may read in the log of deliveries; log_body: what stands there in
    the place of a body that holds a secret."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: frozenset[str] = frozenset()
    log_body: bytes | None = None

    @property
    def shown_body(self) -> bytes:
        return self.body if self.log_body is None else self.log_body


def snapshot(event: Event) -> dict[str, Any]:
    """An event as it is told to the world, taken when it happened. Details that would make it fat are left out, which is said."""
    details: dict[str, Any] = event.data
    if len(json.dumps(details)) > MOST_DETAIL_BYTES:
        details = {"left_out": f"more than {MOST_DETAIL_BYTES} bytes: read event {event.id} from the API"}
    return {
        "id": event.id, "kind": event.kind, "at": event.at.isoformat().replace("+00:00", "Z"), "severity": event.severity,
        "actor": event.actor, "message": event.message, "pool_id": event.pool_id, "node_id": event.node_id,
        "rollout_id": event.rollout_id, "decision_id": event.decision_id, "details": details,
    }  # fmt: skip


def link_of(event: Mapping[str, Any], base_url: str) -> str:
    """The page of the web app that shows what the event is about."""
    for key, page in (
        ("rollout_id", "rollouts"),
        ("decision_id", "decisions"),
        ("node_id", "nodes"),
        ("pool_id", "pools"),
    ):
        if event.get(key):
            return f"{base_url}/{page}/{event[key]}"
    return f"{base_url}/"


def headline(events: Sequence[Mapping[str, Any]]) -> str:
    """One line for a notification or a title."""
    if len(events) == 1:
        return str(events[0]["message"])
    return f"{len(events)} events, the last: {events[-1]['message']}"


def as_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
