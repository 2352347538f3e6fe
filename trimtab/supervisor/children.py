"""One child process: started in a group of its own, watched, started again when it dies, and ended with its whole group."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from trimtab.errors import CommandError
from trimtab.supervisor import launch
from trimtab.supervisor.report import Reporter

QUICK_DEATH_S = 10.0
QUICK_DEATHS_ALLOWED = 5
BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.5, 8.0
PROBE_EVERY_S = 0.25
KILL_WAIT_S = 3.0
LOG_LIMIT_BYTES, LOGS_KEPT = 10_000_000, 3
TAIL_LINES = 12
BAD_INPUT = 2  # exit code of our own commands for what the same start gets again


@dataclass(frozen=True, slots=True)
class Spawned:
    """One run of a component: its process, and when it began."""

    pid: int
    at: datetime


Probe = Callable[[Spawned], Awaitable[bool]]


class ComponentFailed(CommandError):
    """A component does not start or keeps dying; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run and how to tell that it is ready. `env` is the whole environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    probe: Probe
    url: str | None = None
    ready_timeout_s: float = 120.0
    stop_timeout_s: float = 5.0


def launched(command: tuple[str, ...]) -> list[str]:
    """`command`, ended by the kernel when this process dies. To be started from the main thread: the kernel counts threads."""
    return [sys.executable, "-S", "-E", launch.__file__, str(os.getpid()), *command]


@dataclass(slots=True)
class Child:
    """A component under watch. `on_change` is called after each start and end of its process."""

    spec: Spec
    log: Path
    report: Reporter
    on_change: Callable[[], None]
    process: asyncio.subprocess.Process | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _log_start: int = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def ready(self) -> None:
        """Until it was ready for the first time. Raises ComponentFailed when that takes too long."""
        try:
            async with asyncio.timeout(self.spec.ready_timeout_s):
                await self._ready.wait()
        except TimeoutError:
            raise ComponentFailed(
                f"{self.spec.name} was not ready within {self.spec.ready_timeout_s:g} s.\n{self.last_words()}"
            ) from None

    async def run(self) -> None:
        """Keeps it running until `stop`. Raises ComponentFailed when it dies quickly too often, or over bad input."""
        quick_deaths = 0
        while not self.stopping.is_set():
            started = time.monotonic()
            process = await self._spawn()
            probing = asyncio.create_task(self._probe(process, started))
            try:
                code = await process.wait()
            finally:
                probing.cancel()
                kill_group(process.pid)  # its own children do not outlive it; nor does it outlive its watch
            self.on_change()
            if self.stopping.is_set():
                return
            lived_s = time.monotonic() - started
            quick_deaths = quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
            if code == BAD_INPUT and not self._ready.is_set():
                raise ComponentFailed(f"{self.spec.name} cannot start.\n{self.last_words()}")
            if quick_deaths >= QUICK_DEATHS_ALLOWED:
                raise ComponentFailed(
                    f"{self.spec.name} died {quick_deaths} times, each within {QUICK_DEATH_S:g} s of its start "
                    f"(last with {describe_exit(code)}).\n{self.last_words()}"
                )
            pause_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** max(0, quick_deaths - 1))
            self.restarts += 1
            self.report.event(
                self.spec.name,
                "died",
                f"died with {describe_exit(code)}; starting it again in {pause_s:g} s",
                exit_code=code,
                lived_s=round(lived_s, 1),
                restart_in_s=pause_s,
            )
            await asyncio.sleep(pause_s)

    async def stop(self, *, at_once: bool = False) -> None:
        """Asks it to end, waits, then ends its whole group. Never raises."""
        self.stopping.set()
        process = self.process
        if process is None:
            return
        if process.returncode is None and not at_once:
            _signal(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.spec.stop_timeout_s)
            except TimeoutError:
                self.report.note(self.spec.name, f"does not end within {self.spec.stop_timeout_s:g} s; killing it")
        kill_group(process.pid)
        try:
            await asyncio.wait_for(process.wait(), KILL_WAIT_S)
        except TimeoutError:
            self.report.note(self.spec.name, f"process {process.pid} does not end even when killed")

    def last_words(self) -> str:
        """The end of what its last process logged, for a message."""
        try:
            with self.log.open("rb") as handle:
                handle.seek(max(self._log_start, self.log.stat().st_size - 8192))
                lines = handle.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            lines = []
        text = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
        return f"The end of {self.log}:\n{text}"

    async def _spawn(self) -> asyncio.subprocess.Process:
        rotate(self.log)
        with self.log.open("ab") as out:
            self._log_start = out.tell()
            process = await asyncio.create_subprocess_exec(
                *launched(self.spec.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(self.spec.env),
                start_new_session=True,
            )
        self.process = process
        self.on_change()
        return process

    async def _probe(self, process: asyncio.subprocess.Process, started: float) -> None:
        spawned = Spawned(process.pid, datetime.now(UTC))
        while not await self.spec.probe(spawned):  # noqa: ASYNC110 (it asks another process, which can set no event here)
            await asyncio.sleep(PROBE_EVERY_S)
        seconds = round(time.monotonic() - started, 2)
        again = " again" if self._ready.is_set() else ""
        where = f" {self.spec.url}" if self.spec.url else ""
        self.report.event(
            self.spec.name,
            "ready",
            f"ready{again} after {seconds:.1f} s{where}",
            url=self.spec.url,
            pid=process.pid,
            ready_s=seconds,
        )
        self._ready.set()


def rotate(log: Path, limit_bytes: int = LOG_LIMIT_BYTES, kept: int = LOGS_KEPT) -> None:
    """Moves a log that has grown past the limit to `.1`, older ones one further, and drops the oldest."""
    try:
        if log.stat().st_size < limit_bytes:
            return
    except FileNotFoundError:
        return
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def describe_exit(code: int) -> str:
    """`exit code 1`, or the name of the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_group(group: int) -> None:
    # Each child leads a session of its own, so this reaches all of its descendants and nobody else.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
