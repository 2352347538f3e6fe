"""Alertmanager's API v2, `POST /api/v2/alerts`: one webhook for each instance, never a load balancer before them.

The credential is an `Authorization` header.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controlplane.webhooks.formats.incidents import INCIDENTS, Change, changes
from controlplane.webhooks.formats.message import Message, Outgoing, as_json, link_of

PATH = "/api/v2/alerts"
# An alert without an end would be taken for resolved after Alertmanager's resolve_timeout, since we tell it once. What an event
# ends says so itself; what nothing ends is over after a while.
OPEN_FOR, ENDLESS_FOR = timedelta(days=7), timedelta(hours=1)


def render(message: Message) -> Outgoing:
    """An alert for each incident that the event begins or ends; its labels are the same at both ends."""
    event = message.events[-1]
    alerts = [_alert(event, change, message.base_url) for change in changes(event)]
    url = message.url if message.url.rstrip("/").endswith(PATH) else message.url.rstrip("/") + PATH
    headers = {"Content-Type": "application/json"}
    if message.credential is not None:
        headers["Authorization"] = message.credential
    return Outgoing(url, as_json(alerts), headers, frozenset({"Authorization"}))


def _alert(event: Mapping[str, Any], change: Change, base_url: str) -> dict[str, Any]:
    at = datetime.fromisoformat(event["at"])
    labels = {"alertname": f"Trimtab{change.name}", "severity": change.severity, "job": "trimtab"}
    if change.subject is not None:
        labels[change.subject[0]] = change.subject[1]
    link = link_of(event, base_url)
    found = {
        "labels": labels, "annotations": {"summary": event["message"], "link": link}, "generatorURL": link,
    }  # fmt: skip
    if change.is_end:
        return found | {"endsAt": at.isoformat()}
    is_ended_by_an_event = change.name in _ENDED
    return found | {
        "startsAt": at.isoformat(),
        "endsAt": (at + (OPEN_FOR if is_ended_by_an_event else ENDLESS_FOR)).isoformat(),
    }


_ENDED = frozenset(incident.name for incident in INCIDENTS if incident.ends)
