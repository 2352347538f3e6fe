"""Standard Webhooks 1.0: `{type, timestamp, data}`, signed."""

from typing import Any

from controlplane.webhooks.formats.message import Message, Outgoing, as_json, link_of
from controlplane.webhooks.signing import signed_headers

SEVERAL = "events.several"
MOST_BODY_BYTES = 20_000  # the specification: payloads should be small


def render(message: Message) -> Outgoing:
    """One event under its own kind; several as `events.several` with the list of them in `data.events`."""
    single = [
        {"type": event["kind"], "timestamp": event["at"], "data": _data(event, message.base_url)}
        for event in message.events
    ]
    body = as_json(single[0] if len(single) == 1 else _several(single))
    if len(body) > MOST_BODY_BYTES:
        for document in single:
            document["data"]["details"] = {"left_out": "too much for one delivery: read the event from the API"}
        body = as_json(single[0] if len(single) == 1 else _several(single))
    signatures = signed_headers(message.delivery_id, message.at, body, message.signing_secrets)
    return Outgoing(message.url, body, {"Content-Type": "application/json", **signatures})


def _several(single: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": SEVERAL, "timestamp": single[-1]["timestamp"], "data": {"events": single}}


def _data(event: Any, base_url: str) -> dict[str, Any]:
    told = {key: value for key, value in event.items() if key not in {"kind", "at", "id"} and value is not None}
    return {"event_id": event["id"], **told, "url": link_of(event, base_url)}
