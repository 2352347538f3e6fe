"""Where processor time goes: the stacks of all threads, looked at many times a second and weighed with what each thread computed.

py-spy does this from another process, which needs the right to read our memory; containers rarely give it. From inside it takes
none. What a library computes without Python counts for the line that called it; threads that never run Python (a kernel's own
helpers) have one frame each.
"""

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType

from inference_node.profiling.cpu_clock import CpuClock, thread_name

# 100 looks a second cost about 1 % of a core, and a second of a flame graph has 100 stacks a thread.
INTERVAL_S = 0.01
_DEEPEST = 128


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, not a line: lines of one function belong together in a flame graph. `file` is its module's, without folders."""

    name: str
    file: str
    line: int


Stack = tuple[Frame, ...]


@dataclass(slots=True)
class Samples:
    """Stacks, outermost first, and seconds for each, by thread. Of processor time, or of the clock where that is not counted."""

    is_cpu_time: bool
    duration_s: float = 0.0
    threads: dict[str, dict[Stack, float]] = field(default_factory=dict)

    def add(self, thread: str, stack: Stack, seconds: float) -> None:
        stacks = self.threads.setdefault(thread, {})
        stacks[stack] = stacks.get(stack, 0.0) + seconds


def sample(seconds: float, stopped: threading.Event, interval_s: float = INTERVAL_S) -> Samples:
    """Looks at the process for so long, or until `stopped`. Leaves out the thread that calls it."""
    clock = CpuClock.start()
    samples = Samples(is_cpu_time=clock is not None)
    began = before = time.perf_counter()
    while not stopped.wait(interval_s):
        now = time.perf_counter()
        _look(samples, None if clock is None else clock.tick(), now - before)
        before = now
        if now - began >= seconds:
            break
    samples.duration_s = time.perf_counter() - began
    return samples


def _look(samples: Samples, spent: Mapping[int, float] | None, passed_s: float) -> None:
    frames = sys._current_frames()
    me = threading.get_ident()
    known = {thread.native_id: thread for thread in threading.enumerate() if thread.native_id is not None}
    if spent is None:  # a thread that waits looks like one that computes
        spent = {native_id: passed_s for native_id, thread in known.items() if thread.ident in frames}
    for native_id, seconds in spent.items():
        thread = known.get(native_id)
        if thread is None:
            name = thread_name(native_id)
            samples.add(f"native: {name}", (Frame(f"{name} (no Python)", "", 0),), seconds)
        elif thread.ident != me:
            samples.add(thread.name, _stack(frames.get(thread.ident or 0)), seconds)


def _stack(frame: FrameType | None) -> Stack:
    stack: list[Frame] = []
    while frame is not None and len(stack) < _DEEPEST:
        code, module = frame.f_code, str(frame.f_globals.get("__name__", "?"))
        file = module.replace(".", "/") + ".py"  # not the path on this machine: recordings are passed around
        stack.append(Frame(f"{module}.{code.co_qualname}", file, code.co_firstlineno))
        frame = frame.f_back
    return tuple(reversed(stack))
