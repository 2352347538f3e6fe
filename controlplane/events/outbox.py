"""The life of a debt in the outbox: due, published, claimed, and then done, tried again, or dead.

A hint in the queue may be lost or come twice at any time. So publishing is repeated until somebody finishes the row, and a
claim, which only one can hold, makes a second hint harmless.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, or_, select, update
from sqlalchemy.orm import Session

from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.events.models import OutboxItem

REPUBLISH_AFTER_S = 10.0
CLAIM_S = 30.0
MAX_ATTEMPTS = 6
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)


def has_due(session: Session, now: datetime) -> bool:
    """Whether `take_due` would find anything: a read only, for those who ask often."""
    return session.scalars(_due(now).limit(1)).first() is not None


def take_due(session: Session, now: datetime, *, limit: int = 500) -> list[OutboxItem]:
    """Rows whose hint is to be sent now, marked as published. Competing relays take different ones."""
    items = list(session.scalars(_due(now).order_by(OutboxItem.id).limit(limit).with_for_update(skip_locked=True)))
    if items:
        ids = [item.id for item in items]
        session.execute(update(OutboxItem).where(OutboxItem.id.in_(ids)).values(published_at=now))
    return items


def not_published(session: Session, ids: list[int]) -> None:
    """Takes back the mark of hints that could not be sent."""
    session.execute(update(OutboxItem).where(OutboxItem.id.in_(ids)).values(published_at=None))


def claim(session: Session, item_id: int, now: datetime) -> OutboxItem | None:
    """`claim_many` of one row; None when it is finished, dead, not due or held by another."""
    return next(iter(claim_many(session, [item_id], now)), None)


def claim_many(session: Session, item_ids: Sequence[int], now: datetime) -> list[OutboxItem]:
    """Those of the rows that are ours now, held for CLAIM_S and counted as an attempt: without the finished, the dead, the ones
    that are not due and the ones that another holds.

    Attempts whose worker died count, too: a row that kills whoever works on it is dead after MAX_ATTEMPTS, not tried for ever.
    """
    wanted = select(OutboxItem.id).where(OutboxItem.id.in_(item_ids), *_open(now)).order_by(OutboxItem.id)
    ids = list(session.scalars(wanted.with_for_update(skip_locked=True)))
    if not ids:
        return []
    held = {"claimed_until": now + timedelta(seconds=CLAIM_S), "attempts": OutboxItem.attempts + 1}
    session.execute(
        update(OutboxItem).where(OutboxItem.id.in_(ids)).values(held).execution_options(synchronize_session=False)
    )
    rows = select(OutboxItem).where(OutboxItem.id.in_(ids)).order_by(OutboxItem.id)
    items = list(session.scalars(rows.execution_options(populate_existing=True)))
    for item in items:
        if item.attempts > MAX_ATTEMPTS:
            _bury(session, item, now, item.last_error or "the workers that tried it died")
    return [item for item in items if item.attempts <= MAX_ATTEMPTS]


def finish(session: Session, item_id: int, now: datetime, *, note: str | None = None) -> None:
    """The debt is paid. `note` keeps a word on how, where that is not plain."""
    session.execute(
        update(OutboxItem)
        .where(OutboxItem.id == item_id, OutboxItem.done_at.is_(None))
        .values(done_at=now, claimed_until=None, last_error=note)
    )


def finish_all(session: Session, item_ids: Sequence[int], now: datetime) -> None:
    """`finish` for many that need no word."""
    if item_ids:
        session.execute(
            update(OutboxItem)
            .where(OutboxItem.id.in_(item_ids), OutboxItem.done_at.is_(None))
            .values(done_at=now, claimed_until=None, last_error=None)
            .execution_options(synchronize_session=False)
        )


def postpone(session: Session, item_id: int, until: datetime) -> None:
    """Lets go of a claim without having tried: not before `until`, and not counted as an attempt."""
    values = {"available_at": until, "claimed_until": None, "published_at": None, "attempts": OutboxItem.attempts - 1}
    session.execute(
        update(OutboxItem).where(OutboxItem.id == item_id).values(values).execution_options(synchronize_session=False)
    )


def fail(session: Session, item_id: int, now: datetime, *, error: str) -> None:
    """The attempt failed: again later, with growing and jittered pauses; after MAX_ATTEMPTS the row is dead, and said so."""
    item = session.get_one(OutboxItem, item_id, populate_existing=True)
    item.last_error, item.claimed_until, item.published_at = error, None, None
    if item.attempts < MAX_ATTEMPTS:
        pause_s = _BACKOFF_S[min(item.attempts, len(_BACKOFF_S)) - 1] * random.uniform(0.8, 1.2)
        item.available_at = now + timedelta(seconds=pause_s)
    else:
        _bury(session, item, now, error)
    session.flush()


def _bury(session: Session, item: OutboxItem, now: datetime, error: str) -> None:
    item.dead_at, item.claimed_until = now, None
    events.record(
        session, kind=EventKind.OUTBOX_DEAD, severity=Severity.WARNING, at=now, node_id=item.payload.get("node_id"),
        rollout_id=item.payload.get("rollout_id"), message=f"Gave up on {item.key} after {item.attempts} tries: {error}",
        data={"outbox_id": item.id, "kind": item.kind},
    )  # fmt: skip
    session.flush()


def _open(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        OutboxItem.done_at.is_(None),
        OutboxItem.dead_at.is_(None),
        OutboxItem.available_at <= now,
        or_(OutboxItem.claimed_until.is_(None), OutboxItem.claimed_until < now),
    )


def _due(now: datetime) -> Select[OutboxItem]:
    stale = now - timedelta(seconds=REPUBLISH_AFTER_S)
    hinted = or_(OutboxItem.published_at.is_(None), OutboxItem.published_at < stale)
    return select(OutboxItem).where(*_open(now), hinted)
