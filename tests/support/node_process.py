"""A real node as a process of its own: started, waited for, stopped by its id."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

READY_WITHIN_S = 120.0


class NodeProcess:
    """`python -m inference_node` with JSON logs. `log` holds its events so far, `stderr` what was no JSON."""

    def __init__(
        self,
        model: Path,
        data_dir: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.log: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self.data_dir = data_dir
        self._name = options[options.index("--name") + 1] if "--name" in options else "node-1"
        command = [sys.executable, "-m", "inference_node", "--model", str(model), "--data-dir", str(data_dir)]
        command += ["--host", host, "--port", str(port), "--threads", "1", "--log-json", *options]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**clean, **(environment or {})}
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Known as soon as it listens, which is before it is ready."""
        return str(self.event("node_listening")["url"])

    @property
    def admin_token(self) -> str:
        return (self.data_dir / "nodes" / self._name / "admin_token").read_text().strip()

    @property
    def admin(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.admin_token}"}

    def event(self, name: str, timeout_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """The first log event of this name, waited for."""
        until = time.monotonic() + timeout_s
        while True:
            for entry in list(self.log):
                if entry.get("event") == name:
                    return entry
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert not ended, f"the node ended without {name}: {self.log} {self.stderr}"
            assert time.monotonic() < until, f"no {name} within {timeout_s} s: {self.log}"
            time.sleep(0.02)

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Until /readyz says 200."""
        until = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200:
                    return
            assert self.process.poll() is None, f"the node ended: {self.log} {self.stderr}"
            assert time.monotonic() < until, f"not ready within {timeout_s} s: {self.log}"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send the signal, wait for the end; the exit code. Harmless when it has ended already."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = READY_WITHIN_S) -> int:
        """The exit code, once it has ended by itself."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.stderr.append(line)


@contextmanager
def node_process(model: Path, data_dir: Path, *options: str, **more: Any) -> Iterator[NodeProcess]:
    """A ready node, killed at the end if the test has not stopped it."""
    node = NodeProcess(model, data_dir, *options, **more)
    try:
        node.wait_ready()
        yield node
    finally:
        node.close()
