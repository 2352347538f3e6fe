"""Shapes that all endpoints share: strict bodies, times in UTC, lists with an opaque cursor."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, PlainSerializer

from controlplane.errors import Invalid


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


UtcTime = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
T = TypeVar("T")

NOT_OURS = "the cursor is not one of ours: pass on `next_cursor` of the page before as it is"

Limit = Annotated[int, Query(ge=1, le=200, description="how many items at most")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]


class Body(BaseModel):
    """What clients send: a field that we do not know is refused, since it is a wish that we would not fulfil."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What clients get, read off rows or made by hand."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Page(BaseModel, Generic[T]):
    """A piece of a list. `next_cursor` asks for the next one and is absent at the end."""

    items: list[T]
    next_cursor: str | None = None


def encode_cursor(position: str | int) -> str:
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Raises Invalid for what no page of ours ever handed out."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:  # not base64, not ASCII, or not UTF-8 inside
        raise Invalid(NOT_OURS) from error


def decode_pair_cursor(cursor: str | None) -> tuple[str, str] | None:
    """The two texts without spaces in a cursor made of `a b`, None for no cursor. Raises Invalid."""
    if cursor is None:
        return None
    first, space, second = decode_cursor(cursor).partition(" ")
    if not (space and first and second) or "\x00" in first + second:
        raise Invalid(NOT_OURS)
    return first, second


def decode_time_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """The aware time and the id in a cursor, None for no cursor. Raises Invalid."""
    pair = decode_pair_cursor(cursor)
    if pair is None:
        return None
    try:
        when = datetime.fromisoformat(pair[0])
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Invalid(NOT_OURS)
    return when, pair[1]


def decode_int_cursor(cursor: str | None) -> int | None:
    """The number in a cursor, None for no cursor. Raises Invalid."""
    if cursor is None:
        return None
    text = decode_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Invalid(NOT_OURS)
    return int(text)
