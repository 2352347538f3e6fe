"""The control plane's own health: who leads, who is alive, what is owed, and what of the outside answers."""

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from controlplane.events.models import OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.fleets.schemas import GeneralFreezeOut
from controlplane.outside import Answer
from controlplane.processes import service as processes
from controlplane.processes import shards
from controlplane.schema import head
from controlplane.schemas import Out, UtcTime


class DatabaseOut(Out):
    kind: str
    revision: str


class LeaderOut(Out):
    holder: str
    epoch: int = Field(description="the newest under which it leads")
    expires_at: UtcTime
    pools: int = Field(description="how many pools it leads")


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
    leader: LeaderOut | None = Field(description="the controller that leads most pools; null when none leads any")
    leaders: list[LeaderOut] = Field(
        description="all that lead pools: controllers share the pools out among themselves"
    )
    unled_pools: int = Field(description="pools that no controller leads now: nothing is decided or rolled out there")
    processes: list[ProcessOut]
    outbox: OutboxOut
    prometheus: OutsideOut
    redis: OutsideOut
    frozen: GeneralFreezeOut | None = Field(
        description="everything is frozen: no pool may change; null while it is not"
    )
    frozen_pools: int = Field(description="how many pools may not change; all while everything is frozen")


def system_out(session: Session, *, version: str, prometheus: Answer, redis: Answer, now: datetime) -> SystemOut:
    """What SQL knows, beside what was asked before: no network call happens in here."""
    leaders, unled_pools = leaders_out(session)
    frozen = fleets.general_freeze(session)
    return SystemOut(
        version=version,
        database=DatabaseOut(kind=session.get_bind().dialect.name, revision=head()),
        leader=next(iter(leaders), None),
        leaders=leaders,
        unled_pools=unled_pools,
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
        frozen=None if frozen is None else GeneralFreezeOut.model_validate(frozen),
        frozen_pools=fleets.count_frozen(session),
    )


def leaders_out(session: Session) -> tuple[list[LeaderOut], int]:
    """Who leads, most pools first, and how many pools nobody leads."""
    pools = Counter(shards.shard_of(pool_id) for pool_id in session.scalars(select(Pool.id)))
    found = [
        LeaderOut(
            holder=leader.holder,
            epoch=leader.epoch,
            expires_at=leader.expires_at,
            pools=sum(pools[shard] for shard in leader.shards),
        )
        for leader in shards.leaders(session)
    ]
    unled = pools.total() - sum(leader.pools for leader in found)
    return sorted(found, key=lambda leader: -leader.pools), unled


def outbox_out(session: Session, now: datetime) -> OutboxOut:
    is_open: ColumnElement[bool] = OutboxItem.done_at.is_(None) & OutboxItem.dead_at.is_(None)
    count, oldest = session.execute(select(func.count(), func.min(OutboxItem.available_at)).where(is_open)).one()
    dead = session.scalar(select(func.count()).select_from(OutboxItem).where(OutboxItem.dead_at.is_not(None)))
    age_s = None if oldest is None else max(0.0, (now - oldest).total_seconds())
    return OutboxOut(open=count, dead=dead or 0, oldest_age_s=age_s)
