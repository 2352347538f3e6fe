"""The formats by name, and which events each of them has words for."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from controlplane.webhooks.formats import alertmanager, pagerduty, slack, standard, teams, ticket
from controlplane.webhooks.formats.incidents import changes, ends_one, is_one
from controlplane.webhooks.formats.message import Message, Outgoing


class Format(StrEnum):
    """standard: Standard Webhooks. slack: incoming webhook. teams: Workflows. pagerduty: Events API v2; the credential is the
    routing key. ticket: a flat document. alertmanager: API v2. The last two take an `Authorization` header as credential."""

    STANDARD = "standard"
    SLACK = "slack"
    TEAMS = "teams"
    PAGERDUTY = "pagerduty"
    TICKET = "ticket"
    ALERTMANAGER = "alertmanager"


RENDER: dict[str, Callable[[Message], Outgoing]] = {
    Format.STANDARD: standard.render,
    Format.SLACK: slack.render,
    Format.TEAMS: teams.render,
    Format.PAGERDUTY: pagerduty.render,
    Format.TICKET: ticket.render,
    Format.ALERTMANAGER: alertmanager.render,
}
INCIDENTAL = frozenset({Format.PAGERDUTY, Format.ALERTMANAGER})
TAKES_CREDENTIAL = frozenset({Format.PAGERDUTY, Format.TICKET, Format.ALERTMANAGER})


def is_told(form: str, kind: str, severity: str) -> bool:
    """Whether the format can say anything of such an event."""
    return form not in INCIDENTAL or is_one(kind, severity)


def is_good_news(form: str, kind: str) -> bool:
    """Whether an event ends an incident: that is told however little it weighs, or the incident would stay."""
    return form in INCIDENTAL and ends_one(kind)


def tellings(form: str, told: dict[str, Any]) -> list[dict[str, Any]]:
    """The deliveries that an event snapshot makes: PagerDuty takes one incident at a time, and some events end two."""
    if form != Format.PAGERDUTY:
        return [told]
    return [{**told, "change": number} for number in range(len(changes(told)))]


def takes_several(form: str) -> bool:
    """Whether one delivery may hold more than one event."""
    return form not in INCIDENTAL
