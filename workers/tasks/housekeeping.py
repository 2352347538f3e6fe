"""Periodic small work: the worker's own sign of life, and throwing out what is past its time."""

from datetime import datetime

import structlog

from controlplane.audit import heads
from controlplane.db import session_scope
from controlplane.processes import service as processes
from controlplane.retention import prune
from workers.context import WorkerContext

log = structlog.get_logger()


def beat(context: WorkerContext, started_at: str) -> None:
    """A sign of life from inside a task: written only by a worker that really gets and runs tasks."""
    with session_scope(context.engine) as session:
        processes.beat(
            session,
            name=context.name,
            kind="worker",
            now=context.clock.now(),
            started_at=datetime.fromisoformat(started_at),
            detail={"concurrency": context.settings.worker_concurrency},
        )


def tidy(context: WorkerContext) -> None:
    with session_scope(context.engine) as session:
        gone = prune(session, context.clock.now())
    if gone:
        log.info("housekeeping_done", **gone)
    key = context.settings.audit_key
    if key is None:
        return
    with session_scope(context.engine) as session:
        head = heads.sign(session, key.get_secret_value(), context.clock.now())
    if head is not None:
        # In a log that is kept elsewhere this is an anchor: `trimtab audit verify --anchor POSITION:HASH`.
        log.info("audit_head_signed", position=head.position, hash=head.hash)
