"""The control plane's own health: who leads, who is alive, what is owed, and what of the outside answers."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.outside import Answer
from controlplane.processes import lease
from controlplane.processes import service as processes
from controlplane.schema import head
from controlplane.schemas import Out, UtcTime


class DatabaseOut(Out):
    kind: str
    revision: str


class LeaderOut(Out):
    holder: str
    epoch: int
    expires_at: UtcTime


class ProcessOut(Out):
    name: str
    kind: str
    at: UtcTime
    started_at: UtcTime
    alive: bool
    detail: dict[str, Any]


class OutboxOut(Out):
    open: int = Field(description="side effects owed and not yet done")
    dead: int = Field(description="given up after too many attempts")
    oldest_age_s: float | None = Field(description="how long the oldest open one has been due")


class OutsideOut(Out):
    ok: bool | None
    detail: str


class SystemOut(Out):
    version: str
    database: DatabaseOut
    leader: LeaderOut | None
    processes: list[ProcessOut]
    outbox: OutboxOut
    prometheus: OutsideOut
    redis: OutsideOut
    frozen_pools: int


def system_out(session: Session, *, version: str, prometheus: Answer, redis: Answer, now: datetime) -> SystemOut:
    """What SQL knows, beside what was asked before: no network call happens in here."""
    return SystemOut(
        version=version,
        database=DatabaseOut(kind=session.get_bind().dialect.name, revision=head()),
        leader=leader_out(session),
        processes=[
            ProcessOut(
                name=row.name,
                kind=row.kind,
                at=row.at,
                started_at=row.started_at,
                alive=processes.is_alive(row, now),
                detail=row.detail,
            )
            for row in processes.list_processes(session, now)
        ],
        outbox=outbox_out(session, now),
        prometheus=OutsideOut(**asdict(prometheus)),
        redis=OutsideOut(**asdict(redis)),
        frozen_pools=fleets.count_frozen(session),
    )


def leader_out(session: Session) -> LeaderOut | None:
    """Who leads; None when the lease has expired."""
    held = lease.current_holder(session, lease.CONTROLLER)
    if held is None:
        return None
    return LeaderOut(holder=held.holder, epoch=held.epoch, expires_at=held.expires_at)


def outbox_out(session: Session, now: datetime) -> OutboxOut:
    is_open: ColumnElement[bool] = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
    count, oldest = session.execute(select(func.count(), func.min(OutboxItem.available_at)).where(is_open)).one()
    dead = session.scalar(select(func.count()).select_from(OutboxItem).where(OutboxItem.dead_at.is_not(None)))
    age_s = None if oldest is None else max(0.0, (now - oldest).total_seconds())
    return OutboxOut(open=count, dead=dead or 0, oldest_age_s=age_s)
