"""A whole fleet by the real `trimtab up`, in a process of its own: started, waited for, asked, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.ports import free_ports
from trimtab import connection
from trimtab.client import ApiClient
from trimtab.supervisor.ports import HOST

TRIMTAB = [sys.executable, "-P", "-m", "trimtab"]
# Generous: a machine that is busy with other tests loads a model slowly. Each wait ends as soon as its condition holds.
READY_WITHIN_S = 240.0
STOPPED_WITHIN_S = 40.0


def clean_environment() -> dict[str, str]:
    """Ours without settings of a fleet that the developer may run."""
    prefixes = ("TRIMTAB_", "CONTROLPLANE_", "NODE_", "REDIS_URL", "PROMETHEUS_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of `condition`. Raises AssertionError that says what was waited for."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)
    return value


class LocalFleet:
    """One run of `trimtab up --json`. `events` holds its JSON lines so far; `words` what it told people."""

    def __init__(self, data_dir: Path, *options: str, nodes: int = 2, port: int | None = None) -> None:
        self.data_dir, self.nodes = data_dir, nodes
        self.port = port or free_ports(nodes + 3)
        self.events: list[dict[str, Any]] = []
        self._words = data_dir.with_name(f"{data_dir.name}.stderr")
        arguments = ["--data-dir", str(data_dir), "--port", str(self.port), "--nodes", str(nodes), "--json", *options]
        with self._words.open("w") as err:
            self.process = subprocess.Popen(
                [*TRIMTAB, "up", *arguments], stdout=subprocess.PIPE, stderr=err, text=True, env=clean_environment()
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    @property
    def words(self) -> str:
        return self._words.read_text()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def node_url(self, number: int) -> str:
        return f"http://{HOST}:{self.port + number}"

    @property
    def ports(self) -> range:
        return range(self.port, self.port + self.nodes + 3)

    def wait(
        self, component: str = "trimtab", event: str = "ready", *, after: int = 0, within_s: float = READY_WITHIN_S
    ) -> dict[str, Any]:
        """That event, among those after the first `after`. Fails at once, with the words, when the command has ended."""

        def found() -> dict[str, Any] | None:
            for candidate in self.events[after:]:
                if (candidate["component"], candidate["event"]) == (component, event):
                    return candidate
            assert self.process.poll() is None, f"`trimtab up` ended with {self.process.returncode}:\n{self.words}"
            return None

        event_found: dict[str, Any] = until(found, within_s, f"{component} {event}")
        return event_found

    def api(self) -> ApiClient:
        return ApiClient(connection.resolve(self.data_dir))

    def pids(self) -> dict[str, int]:
        """Component to process, of those that it watches now."""
        rows = json.loads((self.data_dir / "processes.json").read_text())
        return {row["component"]: row["pid"] for row in rows}

    def family(self) -> list[psutil.Process]:
        """Every process below `trimtab up`, their children too, and itself."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Asks it to end and waits. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOPPED_WITHIN_S)
        finally:
            if self.process.poll() is None:
                for process in self.family():
                    process.kill()
            self._reader.join(5)
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def local_fleet(data_dir: Path, *options: str, nodes: int = 2, port: int | None = None) -> Iterator[LocalFleet]:
    fleet = LocalFleet(data_dir, *options, nodes=nodes, port=port)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    """Two nodes on the real demo model, without traffic; ready. Shared by all tests of a session: leave it in health."""
    with local_fleet(tmp_path_factory.mktemp("fleet") / "data") as running:
        running.wait()
        yield running


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
