"""A pool in SQL with nothing in it."""

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.fleets.models import Fleet, Pool

AT = datetime(2026, 3, 1, tzinfo=UTC)


def a_pool(session: Session, name: str) -> Pool:
    """Of a fleet that all of these share."""
    fleet = session.scalar(select(Fleet).where(Fleet.name == "empty")) or Fleet(name="empty", created_at=AT)
    pool = Pool(fleet=fleet, name=name, model="tiny", created_at=AT)
    session.add(pool)
    session.flush()
    return pool
