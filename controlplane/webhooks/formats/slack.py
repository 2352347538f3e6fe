"""Slack's incoming webhooks: Block Kit, with a plain text for notifications (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)."""

from collections.abc import Mapping
from typing import Any

from controlplane.webhooks.formats.message import Message, Outgoing, as_json, headline, link_of

_SIGNS = {"info": ":large_blue_circle:", "warning": ":warning:", "error": ":red_circle:"}
MOST_SHOWN = 20  # events in one message; Slack takes 50 blocks
_MOST_TEXT = 2800  # Slack: 3000 in a section


def render(message: Message) -> Outgoing:
    """A section for each event, with a link to its page."""
    blocks: list[dict[str, Any]] = [_section(event, message.base_url) for event in message.events[:MOST_SHOWN]]
    more = len(message.events) - MOST_SHOWN
    if more > 0:
        words = f"and {more} more: <{message.base_url}|all of them>"
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": words}]})
    body = as_json({"text": _escaped(headline(message.events))[:_MOST_TEXT], "blocks": blocks})
    return Outgoing(message.url, body, {"Content-Type": "application/json"})


def _section(event: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    sign = _SIGNS.get(event["severity"], _SIGNS["warning"])
    said = _escaped(event["message"])[:_MOST_TEXT]
    text = f"{sign} {said}\n<{link_of(event, base_url)}|{event['kind']}> · {_escaped(event['actor'])} · {event['at']}"
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}}


def _escaped(text: str) -> str:
    """Slack's three: else an event's text could mention a whole channel, or show a link as another."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
