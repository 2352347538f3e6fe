"""The history by who, what, where and when, in the order of the chain."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.events.models import Event

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """kind: one, or a group of them: `access.*`. since is included, until is not."""

    actor: str | None = None
    kind: str | None = None
    severity: str | None = None
    pool_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def query(self) -> Select[Event]:
        query = select(Event).where(Event.position.is_not(None))
        for column, value in (
            (Event.actor, self.actor), (Event.severity, self.severity), (Event.pool_id, self.pool_id),
        ):  # fmt: skip
            if value is not None:
                query = query.where(column == value)
        if self.kind is not None:
            group = self.kind.endswith("*")
            query = query.where(
                Event.kind.startswith(self.kind[:-1], autoescape=True) if group else Event.kind == self.kind
            )
        if self.since is not None:
            query = query.where(Event.at >= self.since)
        if self.until is not None:
            query = query.where(Event.at < self.until)
        if self.text:
            query = query.where(Event.message.icontains(self.text, autoescape=True))
        return query


def page(session: Session, search: Search, *, limit: int, before: int | None = None) -> list[Event]:
    """Newest first, before a position."""
    query = search.query().order_by(Event.position.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(Event.position < before)))


def everything(engine: Engine, search: Search) -> Iterator[Event]:
    """Oldest first, a page at a time: no transaction stays open for as long as somebody downloads."""
    after = 0
    while True:
        with session_scope(engine, read_only=True) as session:
            query = search.query().where(Event.position > after).order_by(Event.position).limit(PAGE)
            rows = list(session.scalars(query))
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].position or 0
