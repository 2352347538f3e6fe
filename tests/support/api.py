"""The real API under uvicorn on a free port, in a thread of the test process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import structlog

from controlplane.app import Server, create_app
from controlplane.settings import ControlPlaneSettings
from tests.support.ports import free_port

ADMIN_TOKEN = "tt_admin_token_for_tests_0123456789"
ENROLMENT_TOKEN = "enrolment-token-for-tests"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Api:
    """`client` is signed in as admin, `anonymous` is not; both speak to the same server."""

    url: str
    settings: ControlPlaneSettings
    client: httpx2.Client
    anonymous: httpx2.Client


@contextmanager
def api_server(database_url: str, **settings: Any) -> Iterator[Api]:
    """An API on a migrated database. Stops when left; what still waits (streams, long polls) is ended."""
    port = settings.get("port") or free_port()
    options: dict[str, Any] = {
        "database_url": database_url,
        "port": port,
        "admin_token": ADMIN_TOKEN,
        "enrolment_token": ENROLMENT_TOKEN,
        # Nothing answers there, at once: tests that need the real ones say where they are.
        "redis_url": "redis://127.0.0.1:1/0",
        "prometheus_url": "http://127.0.0.1:1",
    }
    made = ControlPlaneSettings(**(options | settings))
    _log_plainly()
    server = Server(create_app(made), made)
    thread = threading.Thread(target=server.run, name="api under test", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        url = f"http://127.0.0.1:{port}"
        with (
            httpx2.Client(base_url=url, headers=admin, timeout=30, trust_env=False) as client,
            httpx2.Client(base_url=url, timeout=30, trust_env=False) as anonymous,
        ):
            yield Api(url, made, client, anonymous)
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)


def _log_plainly() -> None:
    """Into pytest's capture. Left alone, structlog would draw each traceback with all local variables, for half a minute."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _wait_until_started(server: Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the API under test did not start; its log says why")
        time.sleep(0.01)
