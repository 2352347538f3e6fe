"""Processor time of each of this process' threads, as Linux counts it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

_TASKS = Path("/proc/self/task")


@dataclass(slots=True)
class CpuClock:
    """Tells how long each thread computed since the last `tick`."""

    _before: dict[int, int]

    @classmethod
    def start(cls) -> "CpuClock | None":
        """None where the system does not count (schedstat of proc(5): time on the processor in ns, waiting time, timeslices)."""
        now = _read()
        return cls(now) if now else None

    def tick(self) -> dict[int, float]:
        """Seconds by native thread id; threads that did not compute are left out."""
        now = _read()
        spent = {thread: (ns - self._before.get(thread, 0)) / 1e9 for thread, ns in now.items()}
        self._before = now
        return {thread: seconds for thread, seconds in spent.items() if seconds > 0}


def thread_name(native_id: int) -> str:
    """The system's name of a thread, for those that Python does not know."""
    with contextlib.suppress(OSError):
        return (_TASKS / str(native_id) / "comm").read_text().strip()
    return "thread"


def _read() -> dict[int, int]:
    found = {}
    try:
        tasks = list(_TASKS.iterdir())
    except OSError:
        return {}
    for task in tasks:
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has just ended
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return found
