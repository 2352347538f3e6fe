"""Tables: `controller_leases`, `controller_members`, `process_heartbeats`, `task_slots`."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base


class ControllerLease(Base):
    """Who leads. `epoch` grows with each takeover and fences every write of the one before; times are the database's own."""

    __tablename__ = "controller_leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128))
    epoch: Mapped[int]
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)


class ControllerMember(Base):
    """A start of a controller that takes part in sharing out the leases; times are the database's own."""

    __tablename__ = "controller_members"

    holder: Mapped[str] = mapped_column(String(128), primary_key=True)
    joined_at_ms: Mapped[int] = mapped_column(BigInteger)
    expires_at_ms: Mapped[int] = mapped_column(BigInteger)


class ProcessHeartbeat(Base):
    """Last sign of life of an API, controller or worker process. `steady_since`: signs have come without a gap since then."""

    __tablename__ = "process_heartbeats"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), index=True)
    at: Mapped[datetime]
    started_at: Mapped[datetime]
    steady_since: Mapped[datetime]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class TaskSlot(Base):
    """A periodic task's slot of time; whoever inserts the row runs it, so two schedulers never run it twice."""

    __tablename__ = "task_slots"

    task: Mapped[str] = mapped_column(String(64), primary_key=True)
    slot: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    taken_at: Mapped[datetime]
