"""Who asks that a pool be protected: decisions then count it as threatened, whatever its own figures say.

An alarm that is neither repeated nor taken back ends by itself: its sender may be gone, and nobody else can know that it is over.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.fleets.models import PoolAlarm

# Alertmanager and Grafana repeat what still fires every four hours, by their defaults.
LASTS = timedelta(hours=6)
_MOST_TOLD = 3


def sound_alarm(session: Session, alarm_id: str, pool_id: str, *, reason: str, now: datetime) -> None:
    session.add(PoolAlarm(id=alarm_id, pool_id=pool_id, reason=reason, at=now, told_at=now))
    session.flush()


def repeat_alarms(session: Session, alarm_ids: list[str], now: datetime) -> None:
    session.execute(update(PoolAlarm).where(PoolAlarm.id.in_(alarm_ids)).values(told_at=now))


def silence_alarm(session: Session, alarm_id: str) -> None:
    session.execute(delete(PoolAlarm).where(PoolAlarm.id == alarm_id))


def alarms_of(session: Session, pool_ids: Collection[str], now: datetime) -> dict[str, str]:
    """By pool, in one query, of those that have any: its alarms in words, the oldest first."""
    query = select(PoolAlarm.pool_id, PoolAlarm.reason)
    query = query.where(PoolAlarm.pool_id.in_(pool_ids), PoolAlarm.told_at > now - LASTS)
    found: dict[str, list[str]] = {}
    for pool_id, reason in session.execute(query.order_by(PoolAlarm.at, PoolAlarm.id)):
        found.setdefault(pool_id, []).append(reason)
    return {pool_id: _told(reasons) for pool_id, reasons in found.items()}


def _told(reasons: Sequence[str]) -> str:
    more = f" and {len(reasons) - _MOST_TOLD} more" if len(reasons) > _MOST_TOLD else ""
    return "; ".join(reasons[:_MOST_TOLD]) + more
