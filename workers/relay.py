"""The relay: a thread in each worker that turns debts in the outbox into hints in the queue, and rings the periodic tasks.

It asks SQL, never Redis, what is to be done, so a queue that was wiped fills up again by itself.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerDown
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from controlplane.db import session_scope
from controlplane.events import chain, outbox
from controlplane.processes import service as processes
from controlplane.processes.models import ProcessHeartbeat
from controlplane.webhooks import fan_out
from workers.celery_app import HOUSEKEEPING, MESH, PUSH, WEBHOOK
from workers.context import WorkerContext
from workers.tasks.push import MOST_AT_ONCE

log = structlog.get_logger()

POLL_S = 0.25
BEAT_S = 15.0
TIDY_S = 60.0
STALLED_AFTER_S = 60.0
# A wait that lasts so much longer than asked: the process or its machine was stopped, and the tasks had no time to show progress.
STOOD_STILL_S = 5.0
# Outbox kinds, and who handles them: task name and queue.
PUSH_KIND = "push"
WEBHOOK_KIND = fan_out.OUTBOX_KIND
HANDLERS = {
    PUSH_KIND: ("trimtab.push", PUSH),
    WEBHOOK_KIND: ("trimtab.webhooks", WEBHOOK),
    "mesh": ("trimtab.mesh", MESH),
}
TOGETHER = (PUSH_KIND, WEBHOOK_KIND)
PARTS = 8


class Relay(threading.Thread):
    """Polls the outbox every POLL_S. `on_stall` is called once if this worker has run no task for STALLED_AFTER_S though
    the broker takes messages: Celery consumers have been seen to fall silent after a reconnect."""

    def __init__(
        self,
        app: Celery,
        context: WorkerContext,
        *,
        on_stall: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="relay", daemon=True)
        self._app = app
        self._context = context
        self._on_stall = on_stall
        self._monotonic = monotonic
        self._ended = threading.Event()
        self._started_at = context.clock.now()
        self._trouble: str | None = None
        self._next_beat_s = 0.0
        self._watched_since_s = self._monotonic()

    def stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        while not self._wait(POLL_S if self._trouble is None else 8 * POLL_S):
            try:
                self._publish()
                self._ring()
                self._tell()
            except (BrokerDown, RedisError, ConnectionError) as error:
                self._watched_since_s = self._monotonic()
                self._note_trouble("redis_unreachable", error)
            except SQLAlchemyError as error:
                self._note_trouble("database_unreachable", error)
            except Exception as error:  # without the relay no debt is ever paid: it outlives whatever a round raises
                if self._trouble != "relay_failed":
                    log.error("relay_round_raised", exc_info=error)
                self._note_trouble("relay_failed", error)
            else:
                self._note_recovery()
                self._watch()

    def _wait(self, seconds: float) -> bool:
        """Whether the relay has ended. Time that this process spent stopped is no time in which its tasks could have stalled."""
        asked = self._monotonic()
        is_ended = self._ended.wait(seconds)
        if self._monotonic() - asked > seconds + STOOD_STILL_S:
            self._watched_since_s, self._next_beat_s = self._monotonic(), 0.0
        return is_ended

    def _tell(self) -> None:
        """What has happened gets its place in the history, and is owed to the webhooks that want it."""
        with session_scope(self._context.engine, read_only=True) as session:
            is_loose = chain.has_loose(session)
        if is_loose:
            with session_scope(self._context.engine) as session:
                chain.extend(session)
        with session_scope(self._context.engine, read_only=True) as session:
            is_unread = fan_out.has_unread(session)
        if is_unread:
            with session_scope(self._context.engine) as session:
                fan_out.fan_out(session, self._context.clock.now())

    def _publish(self) -> None:
        now = self._context.clock.now()
        with session_scope(self._context.engine, read_only=True) as session:
            if not outbox.has_due(session, now):
                return
        with session_scope(self._context.engine) as session:
            due = [(item.id, item.kind) for item in outbox.take_due(session, now)]
        hints = _hints(due)
        for position, (task, queue, argument, _) in enumerate(hints):
            try:
                self._send(task, queue, argument)
            except Exception:
                with session_scope(self._context.engine) as session:
                    outbox.not_published(session, [item_id for hint in hints[position:] for item_id in hint[3]])
                raise

    def _ring(self) -> None:
        if self._monotonic() < self._next_beat_s:
            return
        # To the queue that only this worker reads: another's progress says nothing of ours.
        self._send("trimtab.beat", own_queue(self._context.name), self._started_at.isoformat(), expires_s=BEAT_S)
        self._next_beat_s = self._monotonic() + BEAT_S
        now = self._context.clock.now()
        with session_scope(self._context.engine) as session:
            is_ours = processes.take_slot(session, "tidy", int(now.timestamp() // TIDY_S), now)
        if is_ours:
            self._send("trimtab.tidy", HOUSEKEEPING, expires_s=TIDY_S)

    def _send(self, task: str, queue: str, *arguments: int | str | list[int], expires_s: float | None = None) -> None:
        self._app.send_task(task, args=arguments, queue=queue, expires=expires_s, retry=False)

    def _watch(self) -> None:
        """Progress is the sign of life: no task of ours done for long, with the broker up and us running, is a stall."""
        now = self._context.clock.now()
        if self._monotonic() - self._watched_since_s < STALLED_AFTER_S:
            return
        with session_scope(self._context.engine, read_only=True) as session:
            row = session.get(ProcessHeartbeat, self._context.name)
            last: datetime = self._started_at if row is None else row.at
        if now - last > timedelta(seconds=STALLED_AFTER_S):
            log.error(
                "worker_stalled", idle_s=round((now - last).total_seconds()), action="the worker ends; restart it"
            )
            self._ended.set()
            self._on_stall()

    def _note_trouble(self, what: str, error: Exception) -> None:
        if self._trouble != what:
            log.error(what, error=str(error), action="nothing is lost: debts wait in SQL; trying again")
        self._trouble = what

    def _note_recovery(self) -> None:
        if self._trouble is not None:
            log.info("recovered", **{"from": self._trouble})
            self._trouble = None
            self._next_beat_s = 0.0


def _hints(due: Sequence[tuple[int, str]]) -> list[tuple[str, str, int | list[int], list[int]]]:
    """What to send for the rows (id, kind): task, queue, argument, and the rows that it stands for. Those whose tasks take many
    travel together, but in enough parts that all who work share them."""
    hints: list[tuple[str, str, int | list[int], list[int]]] = []
    for shared in TOGETHER:
        many = [item_id for item_id, kind in due if kind == shared]
        size = min(MOST_AT_ONCE, max(1, -(-len(many) // PARTS)))
        for start in range(0, len(many), size):
            part = many[start : start + size]
            hints.append((*HANDLERS[shared], part, part))
    for item_id, kind in due:
        if kind in TOGETHER:
            continue
        if kind not in HANDLERS:  # written by newer code: it waits for a worker that knows it, and holds up no other
            log.warning("outbox_kind_unknown", kind=kind, outbox_id=item_id)
            continue
        hints.append((*HANDLERS[kind], item_id, [item_id]))
    return hints


def own_queue(worker_name: str) -> str:
    """The queue that only this worker reads."""
    return f"worker.{worker_name}"
