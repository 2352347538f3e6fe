"""Server-sent events as values (WHATWG HTML, section 9.2.6: interpreting an event stream)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """kind: as `rollout.promoted`, `tick`, or `reset` when too much was missed to tell. id: None for what is not kept."""

    kind: str
    id: int | None
    data: dict[str, Any]


def parse(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """The events in a stream's lines; comments and events without data are left out."""
    kind, data, number = "message", list[str](), ""
    for line in lines:
        if not line:
            if data:
                yield StreamEvent(kind, int(number) if number.isdigit() else None, _object("\n".join(data)))
            kind, data, number = "message", [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            number = value


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"text": text}
