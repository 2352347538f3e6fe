"""Seals what stands in SQL in clear, and anew what an older key sealed: after a first key is given, and after one is replaced."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, select, text, type_coerce, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from controlplane.errors import Unavailable
from controlplane.fleets.models import Node
from controlplane.sealing import SEALED, ring_of
from controlplane.webhooks.models import WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many secrets there are, and how many of them were in clear, or sealed by an older key."""

    secrets: int
    in_clear: int
    by_older_key: int


class NotOpened(Unavailable):
    title = "A secret cannot be opened"


_COLUMNS: tuple[tuple[Any, InstrumentedAttribute[Any], Any], ...] = (
    (WebhookEndpoint, WebhookEndpoint.url, Text()),
    (WebhookEndpoint, WebhookEndpoint.signing_secrets, JSON()),
    (WebhookEndpoint, WebhookEndpoint.credential, Text()),
    (Node, Node.admin_token, Text()),
)


def reseal(session: Session, *, only_clear: bool = False) -> Resealed:
    """Rewrites what is not sealed by the newest key; only_clear: and of that, only what is not sealed at all.

    Without keys it only counts. Raises NotOpened, having changed nothing that stays, for what no key of ours opens.
    """
    ring = ring_of(session.get_bind().dialect)
    if ring and session.get_bind().dialect.name == "sqlite":
        session.execute(text("PRAGMA secure_delete = ON"))  # or what stood in clear would stay in free pages
    total = clear = older = 0
    for table, column, raw in _COLUMNS:
        kept: ColumnElement[Any] = type_coerce(column, raw)
        for row_id, value in session.execute(select(table.id, kept).order_by(table.id).with_for_update()):
            if not value:
                continue
            total += 1
            is_sealed = isinstance(value, str) and value.startswith(SEALED)
            clear += not is_sealed
            if is_sealed and ring and not ring.is_current(value):
                older += 1
                if only_clear:
                    continue
                if ring.open(value) is None:
                    raise NotOpened(f"{table.__tablename__} {row_id}: none of the keys opens its {column.key}")
            elif is_sealed or not ring:
                continue
            secret = column.type.process_result_value(value, session.get_bind().dialect)
            session.execute(update(table).where(table.id == row_id).values({column.key: secret}))
    session.expire_all()
    return Resealed(total, clear, older)
