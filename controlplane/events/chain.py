"""One order for the history, in which each event vouches for all before it.

Ids are handed out before a transaction commits, so a reader who remembers the highest one seen would miss what commits late.
`extend` numbers committed events without gaps, in the order in which it finds them, and links each to the one before by a
hash, so that whoever changes, drops, adds or reorders one breaks the chain (Crosby and Wallach, "Efficient Data Structures for
Tamper-Evident Logging", USENIX Security 2009, section 2: the hash chain that they start from).
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.events.models import ChainHead, Event

GENESIS = "0" * 64
_HEAD = 1


def link(previous_hash: str, position: int, event: Event) -> str:
    """SHA-256, as 64 hex digits, of the hash before, the position and everything that the event says."""
    said = [
        previous_hash, position, event.id, event.at.astimezone(UTC).isoformat(), event.kind, event.severity, event.actor,
        event.message, event.pool_id, event.node_id, event.rollout_id, event.decision_id, event.data,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def has_loose(session: Session) -> bool:
    """Whether `extend` would find anything: a read only, for those who ask often."""
    return session.scalars(select(Event.id).where(Event.position.is_(None)).limit(1)).first() is not None


def extend(session: Session, *, limit: int = 500) -> int:
    """Gives committed events their positions and hashes; returns how many. One at a time does it, whoever asks."""
    insert_if_absent(session, ChainHead, id=_HEAD, position=0, hash=GENESIS)
    head = session.scalars(select(ChainHead).where(ChainHead.id == _HEAD).with_for_update()).one()
    loose = select(Event).where(Event.position.is_(None)).order_by(Event.id).limit(limit)
    rows: Sequence[Event] = session.scalars(loose.execution_options(populate_existing=True)).all()
    for row in rows:
        head.position += 1
        head.hash = link(head.hash, head.position, row)
        row.position, row.hash = head.position, head.hash
    session.flush()
    return len(rows)


def events_from(session: Session, after: int, *, limit: int) -> list[Event]:
    """The events behind position `after`, in their order: none is missing, whatever commits later comes later."""
    return list(session.scalars(select(Event).where(Event.position > after).order_by(Event.position).limit(limit)))
