"""Signs of life of our own processes, and slots that make a periodic task run once however many schedulers there are."""

import os
import socket
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.processes.models import ProcessHeartbeat, TaskSlot

ALIVE_WITHIN_S = 60.0
FORGOTTEN_AFTER_S = 3600.0
# Signs of life are written every 5 s (API, controller). A longer gap: the database did not take them, or the process stood still.
GAP_S = 8.0


def process_name(kind: str) -> str:
    """`kind@host:pid`: who reads it finds the process."""
    return f"{kind}@{socket.gethostname()[:80]}:{os.getpid()}"


def beat(
    session: Session,
    *,
    name: str,
    kind: str,
    now: datetime,
    detail: dict[str, Any] | None = None,
    started_at: datetime | None = None,
) -> None:
    """Writes a sign of life. `kind` is api, controller or worker; `detail` what people may want to know of it.

    A controller puts its last tick's duration into detail["tick_s"], from which `controlplane_tick_seconds` is read.
    """
    if insert_if_absent(
        session, ProcessHeartbeat, name=name, kind=kind, at=now, started_at=started_at or now, steady_since=now,
        detail=detail or {},
    ):  # fmt: skip
        return
    row = session.get_one(ProcessHeartbeat, name)
    if (now - row.at).total_seconds() > GAP_S or (started_at is not None and started_at != row.started_at):
        row.steady_since = now
    row.at, row.kind, row.detail = now, kind, detail or {}
    if started_at is not None:
        row.started_at = started_at
    session.flush()


def is_alive(process: ProcessHeartbeat, now: datetime) -> bool:
    return (now - process.at).total_seconds() <= ALIVE_WITHIN_S


def list_processes(session: Session, now: datetime) -> list[ProcessHeartbeat]:
    """All processes heard of within the last hour, by kind and name."""
    since = now - timedelta(seconds=FORGOTTEN_AFTER_S)
    query = select(ProcessHeartbeat).where(ProcessHeartbeat.at >= since)
    return list(session.scalars(query.order_by(ProcessHeartbeat.kind, ProcessHeartbeat.name)))


def sign_off(session: Session, name: str) -> None:
    """Removes the row of a process that ends in good order."""
    session.execute(delete(ProcessHeartbeat).where(ProcessHeartbeat.name == name))


def take_slot(session: Session, task: str, slot: int, now: datetime) -> bool:
    """Whether this caller is the one to run `task` in `slot` (for example Unix time // period)."""
    return insert_if_absent(session, TaskSlot, task=task, slot=slot, taken_at=now)
