"""A server under test as a process group of its own: started, waited for, frozen while others are measured, stopped."""

import contextlib
import ctypes
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from inference_node.bench.occupancy import peak_rss_bytes, rss_bytes
from inference_node.errors import Unavailable

HOST = "127.0.0.1"
_POLL_S = 0.1
_TERM_S = 15.0
_LOG_TAIL = 5
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ServerFailed(Unavailable):
    """A server under test did not come up, or died. The text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server. `environment` is added to ours; `ready_path` answers 200 once it can be measured."""

    command: tuple[str, ...]
    port: int
    model_name: str
    ready_path: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 300.0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextlib.contextmanager
def ends_on_signals() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP are what Ctrl-C is. In another than the main thread: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell starts what runs in its background with interrupts ignored.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ServerProcess:
    """Leaving the `with` ends it, frozen or not; so does the end of our own process, however that comes."""

    def __init__(self, name: str, launch: Launch, log: Path) -> None:
        self.name, self.launch, self._log = name, launch, log
        self._stopped = False
        started = time.perf_counter()
        with log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    launch.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(launch.environment),
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            except OSError as error:
                raise ServerFailed(
                    f"{name}: {launch.command[0]} cannot be run: {error.strerror}. Does its virtual environment exist? "
                    "`trimtab bench peers` shows how each is made."
                ) from None
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    def rss_mb(self) -> float:
        return round(rss_bytes(self.pid) / 1e6, 1)

    def peak_rss_mb(self) -> float:
        return round(peak_rss_bytes(self.pid) / 1e6, 1)

    def freeze(self) -> None:
        """Stops all its threads, so that a server that spins while idle takes nothing from the one being measured."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends the whole group; safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self.thaw()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TERM_S)
        self._signal(signal.SIGKILL)  # helpers that outlive their parent, too
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _wait_ready(self) -> None:
        until = time.monotonic() + self.launch.start_s
        while not is_ready(self.launch.port, self.launch.ready_path):
            if (code := self._process.poll()) is not None:
                raise ServerFailed(f"{self.name} ended with exit code {code} before it was ready: {self._tail()}")
            if time.monotonic() > until:
                raise ServerFailed(f"{self.name} was not ready within {self.launch.start_s:g} s: {self._tail()}")
            time.sleep(_POLL_S)

    def _tail(self) -> str:
        try:
            lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            lines = []
        return f"{' | '.join(lines[-_LOG_TAIL:]) or 'it logged nothing'} (whole log: {self._log})"


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Between fork and exec. SIGKILL, since a frozen process hears nothing else."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def is_ready(port: int, path: str) -> bool:
    """Whether a server there answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would configure the server behind our back."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "OMP_", "KMP_"))}
    return {**kept, **more}
