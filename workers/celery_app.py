"""The Celery application: how tasks travel. Redis may lose any of them at any time; nothing depends on one arriving."""

from celery import Celery
from kombu import Queue

from controlplane.settings import ControlPlaneSettings

PUSH, WEBHOOK, MESH, HOUSEKEEPING = "push", "webhook", "mesh", "housekeeping"
QUEUES = (PUSH, WEBHOOK, MESH, HOUSEKEEPING)

# A task takes at most TIME_LIMIT_S, which is less than VISIBILITY_S: past that Redis hands it to another worker.
SOFT_TIME_LIMIT_S = 45
TIME_LIMIT_S = 60
VISIBILITY_S = 120


def make_celery(settings: ControlPlaneSettings) -> Celery:
    """An application for this broker. Stock Celery loses tasks when a worker dies; each departure from it says why."""
    app = Celery("trimtab", broker=settings.redis_url)
    app.conf.update(
        # A task is acknowledged when it is done, and given back when its process dies.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # Both sweep settings: with only the first, kombu looks for lost tasks every hundred seconds.
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        task_soft_time_limit=SOFT_TIME_LIMIT_S,
        task_time_limit=TIME_LIMIT_S,
        # Results live in SQL; Celery keeps none.
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=HOUSEKEEPING,
        worker_soft_shutdown_timeout=10,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        enable_utc=True,
    )
    return app
