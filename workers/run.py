"""The worker process: Celery's prefork worker, the tasks bound to their context, and the relay beside it."""

import logging
import secrets
import time
import warnings
from typing import Any

import structlog
from celery import Celery, signals
from celery.platforms import SecurityWarning
from kombu import Queue
from redis import Redis
from redis.exceptions import RedisError

from controlplane import schema
from controlplane.db import session_scope
from controlplane.errors import ControlPlaneError
from controlplane.processes import service as processes
from controlplane.settings import ControlPlaneSettings
from workers.celery_app import QUEUES, make_celery
from workers.context import WorkerContext, die_with_parent
from workers.relay import Relay, own_queue
from workers.tasks import housekeeping
from workers.tasks.mesh import apply_route
from workers.tasks.push import push
from workers.tasks.webhooks import deliver

log = structlog.get_logger()

EXIT_REFUSED = 2
EXIT_STALLED = 70  # EX_SOFTWARE
_BROKER_RETRY_S = 1.0


def run_worker(settings: ControlPlaneSettings) -> int:
    """Works until SIGTERM or SIGINT. Returns the exit code: 2 when it cannot start, 70 when it had stalled."""
    context = WorkerContext(settings, name=f"{processes.process_name('worker')}-{secrets.token_hex(3)}")
    try:
        schema.check(context.engine)
    except ControlPlaneError as error:
        log.error("worker_refused", error=error.detail)
        return EXIT_REFUSED
    _quieten_celery()
    _wait_for_broker(settings)
    app = make_celery(settings)
    bind_tasks(app, context)
    app.conf.task_queues = [*app.conf.task_queues, Queue(own_queue(context.name), auto_delete=True, expires=3600)]
    worker = app.Worker(
        hostname=context.name,
        queues=[*QUEUES, own_queue(context.name)],
        pool="prefork",
        concurrency=settings.worker_concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=logging.WARNING,
        quiet=True,
    )
    stalled = False

    def on_stall() -> None:
        nonlocal stalled
        stalled = True
        worker.terminate(in_sighandler=True)

    relay = Relay(app, context, on_stall=on_stall)

    # Started once the pool has forked, so that no thread's locks are held while it does.
    def on_ready(**_: Any) -> None:
        log.info("worker_ready", name=context.name, redis=settings.redis_url, concurrency=settings.worker_concurrency)
        relay.start()

    def on_child(**_: Any) -> None:
        die_with_parent()

    signals.worker_ready.connect(on_ready, weak=False)
    signals.worker_process_init.connect(on_child, weak=False)
    try:
        worker.start()
    finally:
        relay.stop()
        signals.worker_ready.disconnect(on_ready)
        signals.worker_process_init.disconnect(on_child)
        _sign_off(context)
    return EXIT_STALLED if stalled else int(worker.exitcode or 0)


def bind_tasks(app: Celery, context: WorkerContext) -> None:
    """Registers every task under its name; the names are what the queue carries."""

    @app.task(name="trimtab.push")
    def _push(item_ids: list[int] | int) -> None:
        push(context, [item_ids] if isinstance(item_ids, int) else item_ids)  # one alone: a hint of older code

    @app.task(name="trimtab.webhooks")
    def _webhooks(item_ids: list[int]) -> None:
        deliver(context, item_ids)

    @app.task(name="trimtab.mesh")
    def _mesh(item_id: int) -> None:
        apply_route(context, item_id)

    @app.task(name="trimtab.beat")
    def _beat(started_at: str) -> None:
        housekeeping.beat(context, started_at)

    @app.task(name="trimtab.tidy")
    def _tidy() -> None:
        housekeeping.tidy(context)


def _wait_for_broker(settings: ControlPlaneSettings) -> None:
    """Blocks until Redis answers; says so once, with what to do, instead of once a try."""
    said = False
    while True:
        try:
            with Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=3) as redis:
                redis.ping()
                _check_persistence(redis)
        except RedisError as error:
            if not said:
                log.error(
                    "redis_unreachable",
                    url=settings.redis_url,
                    error=str(error),
                    action="start Redis or set CONTROLPLANE_REDIS_URL; waiting for it, nothing is lost meanwhile",
                )
            said = True
            time.sleep(_BROKER_RETRY_S)
        else:
            return


def _check_persistence(redis: Redis) -> None:
    """Warns of a Redis that may throw tasks out. SQL heals that, but slower than a queue that keeps them."""
    try:
        policy = str(redis.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction"))
    except RedisError:
        return  # CONFIG is often forbidden on managed servers
    if policy != "noeviction":
        log.warning("redis_may_evict_tasks", maxmemory_policy=policy, action="set maxmemory-policy noeviction")


def _quieten_celery() -> None:
    """Celery prints tracebacks of a lost broker on each retry; one line says as much."""

    def without_traceback(record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True

    logging.getLogger("celery.worker.consumer.consumer").addFilter(without_traceback)
    # Two lines for each task, twice a minute when nothing happens; what a task did, it logs itself.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of root because of pickled tasks; ours are JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def _sign_off(context: WorkerContext) -> None:
    try:
        with session_scope(context.engine) as session:
            processes.sign_off(session, context.name)
    except Exception as error:  # noqa: BLE001 (we are leaving; the row grows old by itself)
        log.warning("sign_off_failed", error=str(error))
