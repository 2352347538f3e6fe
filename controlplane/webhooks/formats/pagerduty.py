"""PagerDuty Events API v2 (https://developer.pagerduty.com/docs/events-api-v2-overview). The credential is the routing key."""

import json
from typing import Any

from controlplane.webhooks.formats.incidents import changes
from controlplane.webhooks.formats.message import Message, Outgoing, as_json, link_of

_MOST_SUMMARY = 1024
_MOST_KEY = 255


def render(message: Message) -> Outgoing:
    """Triggers or resolves one incident: a delivery in this format holds one event."""
    event = message.events[-1]
    change = changes(event)[event.get("change", 0)]
    document: dict[str, Any] = {
        "routing_key": message.credential or "", "event_action": "resolve" if change.is_end else "trigger",
        "dedup_key": change.key[:_MOST_KEY], "client": "Trimtab", "client_url": link_of(event, message.base_url),
        "links": [{"href": link_of(event, message.base_url), "text": "Open in Trimtab"}],
        "payload": {
            "summary": event["message"][:_MOST_SUMMARY], "source": message.base_url, "severity": change.severity,
            "timestamp": event["at"], "component": change.subject[1] if change.subject else "trimtab",
            "group": event.get("pool_id") or "trimtab", "class": event["kind"],
            "custom_details": {"actor": event["actor"], "delivery": message.delivery_id, **event["details"]},
        },
    }  # fmt: skip
    shown = json.loads(json.dumps(document)) | {"routing_key": "(not shown)"}
    return Outgoing(message.url, as_json(document), {"Content-Type": "application/json"}, log_body=as_json(shown))
