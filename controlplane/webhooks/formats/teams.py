"""Microsoft Teams' Workflows: an Adaptive Card in a message (https://learn.microsoft.com/power-automate/teams/send-a-message-in-teams)."""

from collections.abc import Mapping
from typing import Any

from controlplane.webhooks.formats.message import Message, Outgoing, as_json, headline, link_of

_COLOURS = {"info": "Default", "warning": "Warning", "error": "Attention"}
MOST_SHOWN = 10  # Teams takes 28 kB a message
_MOST_TEXT = 1500


def render(message: Message) -> Outgoing:
    """A card that names the events and opens the page of the newest one."""
    shown = message.events[:MOST_SHOWN]
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _plain(headline(message.events)), "weight": "Bolder", "wrap": True}
    ]
    for event in shown:
        body += _blocks(event)
    more = len(message.events) - len(shown)
    if more > 0:
        body.append({"type": "TextBlock", "text": f"and {more} more", "isSubtle": True})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
        "actions": [
            {"type": "Action.OpenUrl", "title": "Open Trimtab", "url": link_of(message.events[-1], message.base_url)}
        ],
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    document = {"type": "message", "attachments": [attachment]}
    return Outgoing(message.url, as_json(document), {"Content-Type": "application/json"})


def _blocks(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    colour = _COLOURS.get(event["severity"], "Warning")
    facts = [{"title": "Kind", "value": event["kind"]}, {"title": "By", "value": _plain(event["actor"])}]
    return [
        {"type": "TextBlock", "text": _plain(event["message"]), "wrap": True, "color": colour},
        {"type": "FactSet", "facts": [*facts, {"title": "At", "value": event["at"]}]},
    ]


def _plain(text: str) -> str:
    """Text blocks read a part of Markdown: links of others stay text."""
    return text[:_MOST_TEXT].replace("[", "\\[").replace("]", "\\]")
