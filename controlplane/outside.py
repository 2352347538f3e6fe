"""Whether what we lean on outside SQL answers: Prometheus and Redis. Asked every few seconds at most, never in a transaction."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from controlplane.settings import ControlPlaneSettings
from controlplane.telemetry.prometheus import Prometheus, PrometheusUnavailable

KEEP_S = 5.0
TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok` None: not asked, since we do not know how to."""

    ok: bool | None
    detail: str


class Outside:
    """One per process. An answer is kept for KEEP_S, so that a busy page does not become load on what it asks about."""

    def __init__(self, settings: ControlPlaneSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, Answer]] = {}
        self._lock = threading.Lock()

    def prometheus(self) -> Answer:
        return self._ask("prometheus", self._ask_prometheus)

    def redis(self) -> Answer:
        return self._ask("redis", self._ask_redis)

    def _ask(self, name: str, ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or self._monotonic() - kept[0] > KEEP_S:
                kept = (self._monotonic(), ask())
                self._kept[name] = kept
            return kept[1]

    def _ask_prometheus(self) -> Answer:
        client = Prometheus.of(self._settings, timeout_s=TIMEOUT_S)
        try:
            client.check()
        except PrometheusUnavailable as error:
            return Answer(False, error.detail)
        finally:
            client.close()
        return Answer(True, f"answers at {client.url}")

    def _ask_redis(self) -> Answer:
        url = self._settings.redis_url
        if not url.startswith(("redis://", "rediss://", "unix://")):
            return Answer(None, "the queue is not Redis: its health is not asked for")
        try:
            client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
            try:
                client.ping()
            finally:
                client.close()
        except (RedisError, OSError, ValueError) as error:
            return Answer(
                False,
                f"Redis does not answer ({error}): check that it runs and that CONTROLPLANE_REDIS_URL names it; nodes still "
                "fetch their settings by themselves, and nothing owed is lost",
            )
        return Answer(True, "answers")
