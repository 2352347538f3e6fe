"""A flat document that any tracker's automation can read, signed as Standard Webhooks.

The credential is an `Authorization` header.
"""

from controlplane.webhooks.formats.message import Message, Outgoing, as_json, headline, link_of
from controlplane.webhooks.signing import signed_headers

_PRIORITIES = {"info": "low", "warning": "medium", "error": "high"}


def render(message: Message) -> Outgoing:
    """title, description, priority, labels, url, and a key that is the same when the delivery comes again."""
    last = message.events[-1]
    worst = max(message.events, key=lambda event: list(_PRIORITIES).index(event["severity"]))
    lines = [
        f"{event['at']} {event['message']} ({event['kind']}, {event['actor']})\n{link_of(event, message.base_url)}"
        for event in message.events
    ]
    body = as_json(
        {
            "key": message.delivery_id, "title": headline(message.events)[:250], "description": "\n\n".join(lines)[:15_000],
            "priority": _PRIORITIES[worst["severity"]], "labels": sorted({"trimtab", *(e["kind"] for e in message.events)}),
            "url": link_of(last, message.base_url), "created_at": last["at"],
        }
    )  # fmt: skip
    headers = {"Content-Type": "application/json"}
    headers |= signed_headers(message.delivery_id, message.at, body, message.signing_secrets)
    if message.credential is not None:
        headers["Authorization"] = message.credential
    return Outgoing(message.url, body, headers, frozenset({"Authorization"}))
