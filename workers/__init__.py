"""When and how often; the what is in `controlplane`. Celery workers on Redis, with SQL as the only truth."""

from workers.run import run_worker as run_worker
