"""Which pools may not change by somebody's word: each for itself, or all at once. Freeze windows are a policy's."""

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets.models import GeneralFreeze, Pool

_ONE = 1


def freeze_pool(session: Session, pool: Pool, *, reason: str, actor: str, now: datetime) -> None:
    """Stops new changes to the pool; rollbacks stay possible. Raises Conflict when it is frozen already."""
    if pool.frozen_at is not None:
        raise Conflict(
            f"pool {pool.name!r} is frozen already, since {pool.frozen_at:%Y-%m-%d %H:%M:%S} UTC: {pool.frozen_reason}"
        )
    pool.frozen_at, pool.frozen_reason = now, reason
    events.record(
        session, kind=EventKind.POOL_FROZEN, severity="warning", at=now, actor=actor, pool_id=pool.id,
        message=f"Pool {pool.name} was frozen: {reason}", data={"reason": reason},
    )  # fmt: skip


def unfreeze_pool(session: Session, pool: Pool, *, actor: str, now: datetime) -> None:
    """Lets changes to the pool happen again; a pool that is not frozen is left as it is."""
    if pool.frozen_at is None:
        return
    pool.frozen_at = pool.frozen_reason = None
    message = f"Pool {pool.name} may change again"
    events.record(session, kind=EventKind.POOL_UNFROZEN, at=now, actor=actor, pool_id=pool.id, message=message)


def freeze_everything(session: Session, *, reason: str, actor: str, now: datetime) -> GeneralFreeze:
    """Stops new changes to every pool, also to those that come. Pools keep their own freezes beside it.

    Rollbacks stay possible. Raises Conflict when everything is frozen already.
    """
    if not insert_if_absent(session, GeneralFreeze, id=_ONE, at=now, reason=reason, actor=actor):
        already = general_freeze(session)  # may have ended just now
        by = (
            ""
            if already is None
            else f", by {already.actor} since {already.at:%Y-%m-%d %H:%M:%S} UTC: {already.reason}"
        )
        raise Conflict(f"everything is frozen already{by}")
    events.record(
        session, kind=EventKind.CONTROL_FROZEN, severity="warning", at=now, actor=actor,
        message=f"Every pool was frozen: {reason}", data={"reason": reason},
    )  # fmt: skip
    return session.get_one(GeneralFreeze, _ONE)


def unfreeze_everything(session: Session, *, actor: str, now: datetime) -> None:
    """Ends the freeze of everything; pools that are frozen for themselves stay so. Without one, nothing happens."""
    if session.execute(delete(GeneralFreeze).returning(GeneralFreeze.id)).first() is None:
        return
    message = "Pools may change again, but for those that are frozen for themselves"
    events.record(session, kind=EventKind.CONTROL_UNFROZEN, at=now, actor=actor, message=message)


def general_freeze(session: Session) -> GeneralFreeze | None:
    return session.get(GeneralFreeze, _ONE, populate_existing=True)


def frozen_by_hand(session: Session, pool: Pool) -> str | None:
    """Why the pool may not change, by the word of a person or an alert; None while it may."""
    return frozen_under(general_freeze(session), pool)


def frozen_under(general: GeneralFreeze | None, pool: Pool) -> str | None:
    """The same, where it is known already whether everything is frozen."""
    if general is not None:
        return f"everything is frozen by {general.actor}: {general.reason}"
    return None if pool.frozen_at is None else pool.frozen_reason or "no reason given"


def count_frozen(session: Session) -> int:
    """How many pools may not change."""
    frozen = select(func.count()).select_from(Pool)
    if general_freeze(session) is None:
        frozen = frozen.where(Pool.frozen_at.is_not(None))
    return session.scalar(frozen) or 0
