"""Step memories in SQL: read once when a pool is taken over, written in the tick's transaction where a window was learned."""

import functools
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import Update, bindparam, select, update
from sqlalchemy.orm import Session

from controlplane.db import rows_matched, table_of
from controlplane.decisions.models import PerformanceModelRecord
from controlplane.decisions.step_memory.levels import Level, Machine, PoolMemory
from controlplane.decisions.step_memory.memory import Memory
from controlplane.decisions.step_memory.update import HEALTHY_ERROR
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from inference_node.contract.settings import KvPrecision, Precision

log = structlog.get_logger(__name__)

ACTOR = "performance"
_MACHINE = ("hardware", "model", "engine_version")
_WRITTEN = ("memory", "state", "in_force", "windows", "error_ratio", "epoch", "updated_at")


class Memories:
    """What each pool's memory is while this process leads it without a break: in another epoch somebody else may have learned.

    Not thread-safe. `forget` after a transaction that failed: what was kept in it is not so.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, PoolMemory]] = {}

    def of(self, session: Session, pool_id: str, epoch: int) -> PoolMemory:
        known = self._of.get(pool_id)
        if known is None or known[0] != epoch:
            known = self._of[pool_id] = (epoch, read_memory(session, pool_id))
        return known[1]

    def keep(self, session: Session, pool_id: str, epoch: int, memory: PoolMemory, at: datetime) -> None:
        """Writes what is new in it, in the caller's transaction, and tells of machines that changed."""
        of_epoch, before = self._of.get(pool_id, (None, PoolMemory()))
        if of_epoch != epoch:
            before = read_memory(session, pool_id)
        for level, learned in memory.changed_since(before).items():
            _write(session, pool_id, level, learned, epoch, at)
            _tell(session, pool_id, level, before.levels.get(level), learned, at)
        self._of[pool_id] = (epoch, memory)

    def forget(self, pool_id: str) -> None:
        self._of.pop(pool_id, None)

    def forget_all_but(self, pool_ids: set[str]) -> None:
        for pool_id in [pool_id for pool_id in self._of if pool_id not in pool_ids]:
            del self._of[pool_id]


def read_memory(session: Session, pool_id: str) -> PoolMemory:
    """A row that cannot be understood is left out, and its level learned anew."""
    found = {level_of(row): memory for row in records(session, pool_id) if (memory := readable(row)) is not None}
    return PoolMemory(found)


def readable(row: PerformanceModelRecord) -> Memory | None:
    """What it holds; None where no version of ours wrote that."""
    try:
        return Memory.from_json(row.memory)
    except ValidationError as error:
        log.warning("step_memory_not_read", pool_id=row.pool_id, key=row.key, error_count=error.error_count())
        return None


def records(session: Session, pool_id: str) -> Iterable[PerformanceModelRecord]:
    """Of the pool, in a lasting order."""
    query = select(PerformanceModelRecord).where(PerformanceModelRecord.pool_id == pool_id)
    return session.scalars(query.order_by(PerformanceModelRecord.key)).all()


class Figures(NamedTuple):
    """Of a level, in small columns."""

    precision: str
    kv_precision: str
    pruning: float
    windows: int
    error_ratio: float | None


def figures_in_force(session: Session, pool_id: str, since: datetime) -> list[Figures]:
    """Of the levels in force that were learned from since then: one, or none."""
    columns = (getattr(PerformanceModelRecord, name) for name in Figures._fields)
    query = select(*columns).where(
        PerformanceModelRecord.pool_id == pool_id,
        PerformanceModelRecord.in_force.is_(True),
        PerformanceModelRecord.updated_at >= since,
    )
    return [Figures(*row) for row in session.execute(query)]


def level_of(row: PerformanceModelRecord) -> Level:
    machine: Machine = tuple((node["hardware"], node["model"], node["engine_version"]) for node in row.machine)
    return Level(machine, Precision(row.precision), KvPrecision(row.kv_precision), row.pruning)


def _write(session: Session, pool_id: str, level: Level, memory: Memory, epoch: int, at: datetime) -> None:
    new = {
        "memory": memory.to_json(), "state": memory.state.value, "in_force": memory.in_force_since is not None,
        "windows": memory.windows, "error_ratio": memory.error, "epoch": epoch, "updated_at": at,
    }  # fmt: skip
    given = {f"new_{name}": value for name, value in new.items()}
    session.flush()
    if rows_matched(session.execute(_again(), {"of_pool": pool_id, "of_key": level.key, **given})) == 1:
        return
    machine: list[dict[str, Any]] = [dict(zip(_MACHINE, node, strict=True)) for node in level.machine]
    row = PerformanceModelRecord(
        pool_id=pool_id, key=level.key, machine=machine, precision=level.precision.value,
        kv_precision=level.kv_precision.value, pruning=level.pruning, **new,
    )  # fmt: skip
    session.add(row)
    session.flush()


@functools.cache
def _again() -> Update:
    table = table_of(PerformanceModelRecord)
    here = (table.c.pool_id == bindparam("of_pool")) & (table.c.key == bindparam("of_key"))
    return (
        update(table)
        .where(here)
        .values({name: bindparam(f"new_{name}", type_=table.c[name].type) for name in _WRITTEN})
    )


def _tell(session: Session, pool_id: str, level: Level, before: Memory | None, memory: Memory, at: datetime) -> None:
    """Once when a machine is found changed, and once when its steps are as expected again for a while."""
    was = before is not None and before.is_degraded
    if memory.is_degraded == was:
        return
    name = " ".join(
        [level.precision.value, f"keys and values {level.kv_precision.value}", f"pruning {level.pruning:g}"]
    )
    if memory.is_degraded:
        kind, severity = EventKind.MODEL_DEGRADED, Severity.WARNING
        message = (
            f"Steps ({name}) took more than a fifth longer or shorter than was learned of them, window after window. "
            "What was learned is let go of and they are learned anew; until they are known again, nothing is relaxed "
            "while the error is above 15 %."
        )
    else:
        kind, severity = EventKind.MODEL_RECOVERED, Severity.INFO
        message = f"Steps ({name}) are known again, with an error below {HEALTHY_ERROR:.0%}."
    events.record(
        session, kind=kind, severity=severity, message=message, at=at, actor=ACTOR, pool_id=pool_id,
        data={"precision": level.precision.value, "kv_precision": level.kv_precision.value, "pruning": level.pruning,
              "error_ratio": memory.error, "level": memory.level},
    )  # fmt: skip
