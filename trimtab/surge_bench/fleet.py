"""The fleet under test: `trimtab up` in a process of its own, with nothing of this process' environment that would set it up."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from inference_node.bench.ports import LOWEST, clients_start, is_free
from trimtab import connection
from trimtab.client import ApiClient
from trimtab.errors import CommandError
from trimtab.supervisor.children import launched
from trimtab.supervisor.specs import trimtab

READY_WITHIN_S = 300.0
STOPPED_WITHIN_S = 45.0
_POLL_S = 0.2
_TAIL = 6
# What would point the fleet at servers of somebody else's, or set its nodes up in another way.
_NOT_OURS = ("TRIMTAB_", "CONTROLPLANE_", "NODE_", "REDIS_URL", "PROMETHEUS_URL")


class FleetFailed(CommandError):
    """`trimtab up` did not come up, or ended. The text holds its last words."""


class RealFleet:
    """Leaving the `with` ends it in good order, and so does the end of this process, however that comes."""

    def __init__(self, data_dir: Path, nodes: int) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        port = _free_row(nodes + 3)
        command = trimtab("up", "--data-dir", str(data_dir), "--port", str(port), "--nodes", str(nodes), "--json")
        self._words = data_dir / "up.log"
        self._ready: dict[str, Any] | None = None
        with self._words.open("w") as words:
            # A session of its own: Ctrl-C is for this process, which then ends the fleet.
            self._process = subprocess.Popen(
                launched(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words,
                text=True, env=_environment(), start_new_session=True,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="fleet-events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the process that all others of the fleet descend from."""
        return self._process.pid

    @property
    def node_urls(self) -> list[str]:
        return [str(node["url"]) for node in self._told["nodes"]]

    @property
    def model(self) -> str:
        return str(self._told["model"])

    def api(self) -> ApiClient:
        return ApiClient(connection.resolve(self.data_dir), timeout_s=30.0)

    def require_running(self) -> None:
        """Raises FleetFailed when it has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise FleetFailed(f"`trimtab up` ended with exit code {code}: {self._tail()}")

    def stop(self) -> None:
        """Asks it to end, waits, and kills what is left of it. Safe to call twice."""
        family = _family(self._process.pid) if self._process.poll() is None else []
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._process.wait()
            self._reader.join(5)
            if self._process.stdout is not None:
                self._process.stdout.close()

    @property
    def _told(self) -> dict[str, Any]:
        assert self._ready is not None, "asked before it was ready"
        return self._ready

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if (event["component"], event["event"]) == ("trimtab", "ready"):
                self._ready = event

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while self._ready is None:
            self.require_running()
            if time.monotonic() > deadline:
                raise FleetFailed(f"the fleet was not ready within {READY_WITHIN_S:g} s: {self._tail()}")
            time.sleep(_POLL_S)

    def _tail(self) -> str:
        try:
            lines = self._words.read_text(errors="replace").splitlines()[-_TAIL:]
        except OSError:
            lines = []
        return " | ".join(line.strip() for line in lines) or "it said nothing"


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}


def _free_row(count: int) -> int:
    """The first of so many free ports in a row. Raises FleetFailed."""
    last = clients_start() - count
    first = LOWEST + os.getpid() % max(1, last - LOWEST)
    for start in itertools.chain(range(first, last), range(LOWEST, first)):
        if all(map(is_free, range(start, start + count))):
            return start
    raise FleetFailed(f"no {count} ports in a row from {LOWEST} on are free: end what listens there")
