"""The data folder: who holds it, where what lies in it, and which processes an earlier supervisor left behind."""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from trimtab.errors import CommandError, UsageError
from trimtab.supervisor.children import kill_group

LEFTOVER_TERM_S, LEFTOVER_KILL_S = 12.0, 3.0


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Everything that `trimtab up` keeps, below `root` (mode 0700)."""

    root: Path

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.root / 'trimtab.sqlite3'}"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name

    def make(self) -> None:
        """Raises UsageError when the folder cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the data folder {self.root} cannot be used ({error.strerror}): choose another with --data-dir"
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder until the end. The kernel lets go of it when this process dies, however it dies.

        Raises UsageError naming the process that holds it.
        """
        with (self.root / "up.lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                pid = handle.read().strip() or "unknown"
                raise UsageError(
                    f"another `trimtab up` (pid {pid}) runs on {self.root}: stop it, or choose another folder and ports "
                    "with --data-dir and --port"
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    # Processes of ours -------------------------------------------------------------------------------------------

    @property
    def _processes(self) -> Path:
        return self.root / "processes.json"

    def remember_processes(self, pids: dict[str, int]) -> None:
        """Component to pid, with start times, so that a recycled pid is never mistaken for ours."""
        rows = []
        for component, pid in pids.items():
            try:
                rows.append({"component": component, "pid": pid, "started": psutil.Process(pid).create_time()})
            except psutil.Error:
                continue
        temporary = self._processes.with_suffix(".new")
        temporary.write_text(json.dumps(rows))
        temporary.replace(self._processes)

    def end_leftovers(self) -> list[str]:
        """Ends what a supervisor that was killed left running, and says what that was. Raises CommandError if it will not end.

        They were told to end when it died (see launch.py); here they get the time to, and then no more.
        """
        left = list(self._leftovers())
        groups = {process.pid for _, process in left}
        for _, process in left:
            _signal(process, signal.SIGTERM)
        _, alive = psutil.wait_procs([process for _, process in left], timeout=LEFTOVER_TERM_S)
        for group in groups:  # also of those that ended: their own children share the group
            kill_group(group)
        _, alive = psutil.wait_procs(alive, timeout=LEFTOVER_KILL_S)
        if alive:
            raise CommandError(f"process {alive[0].pid} of an earlier run does not end: stop it by hand")
        return [component for component, _ in left]

    def _leftovers(self) -> Iterator[tuple[str, psutil.Process]]:
        try:
            rows = json.loads(self._processes.read_text())
        except (OSError, ValueError):
            return
        for row in rows:
            try:
                process = psutil.Process(row["pid"])
                # Written and read by the same function on the same boot, so equal up to rounding.
                if abs(process.create_time() - row["started"]) < 0.05 and os.getpgid(process.pid) == process.pid:
                    yield row["component"], process
            except (psutil.Error, ProcessLookupError):
                continue


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):  # already gone
        process.send_signal(number)
