"""A trace of some steps: torch's own operations on all threads, and above them our steps with what was in them.

The file is Chrome's trace format ("Trace Event Format", Google, 2016), packed with gzip; Perfetto opens it.
"""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from inference_node.engine.listener import StepRecord

# A step in plain torch is about a thousand operations of half a kilobyte each, all in memory until the end.
MOST_STEPS = 200

# Calls its argument with every step while it is entered.
WatchSteps = Callable[[Callable[[StepRecord], None]], AbstractContextManager[None]]


def trace(seconds: float, stopped: threading.Event, watch_steps: WatchSteps, path: Path) -> None:
    """Records for so long, until MOST_STEPS were run, or until `stopped`; writes `path` (*.json.gz)."""
    # Here and not above: torch takes a second to load, and the server listens before.
    from torch._C._profiler import _ExperimentalConfig  # noqa: PLC0415
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    steps: list[StepRecord] = []
    profiler = profile(
        activities=[ProfilerActivity.CPU],
        experimental_config=_ExperimentalConfig(profile_all_threads=True),
    )
    profiler.start()  # takes a second the first time: what is run meanwhile is not recorded
    try:
        until = time.monotonic() + seconds
        with watch_steps(steps.append):
            while time.monotonic() < until and len(steps) < MOST_STEPS and not stopped.wait(0.01):
                pass
    finally:
        profiler.stop()
    plain = path.with_suffix(".torch")
    try:
        profiler.export_chrome_trace(str(plain))
        merge(plain, steps[:MOST_STEPS], path)
    finally:
        plain.unlink(missing_ok=True)


def merge(plain: Path, steps: list[StepRecord], path: Path) -> None:
    """Packs torch's trace with our steps put in. Line by line: it may be larger than what should be in memory at once."""
    base_ns = 0
    with plain.open(encoding="utf-8") as lines, gzip.open(path, "wt", encoding="utf-8", compresslevel=5) as packed:
        for line in lines:
            if '"baseTimeNanoseconds"' in line:
                base_ns = int(line.split(":")[1].strip(" ,\n"))
            packed.write(line)
            if '"traceEvents": [' in line:
                for event in step_events(steps, base_ns, time.time_ns() - time.monotonic_ns()):
                    packed.write(json.dumps(event) + ",\n")


def step_events(steps: list[StepRecord], base_ns: int, monotonic_at_ns: int) -> Iterator[dict[str, Any]]:
    """Steps as complete events, each replica's on a row of its own. Times are microseconds since base_ns; steps' are on the
    monotonic clock, whose zero was at monotonic_at_ns."""
    pid, replicas = os.getpid(), sorted({step.replica for step in steps} | {0})
    for replica in replicas:
        name = "engine steps" if len(replicas) == 1 else f"steps of replica {replica}"
        yield {"ph": "M", "name": "thread_name", "ts": 0, "pid": pid, "tid": replica, "args": {"name": name}}
    for step in steps:
        started_ns = monotonic_at_ns + step.started_s * 1e9
        yield {
            "ph": "X",
            "cat": "step",
            "name": f"step {step.step}",
            "ts": (started_ns - base_ns) / 1e3,
            "dur": step.duration_s * 1e6,
            "pid": pid,
            "tid": step.replica,
            "args": {
                "decode_rows": step.decode_rows,
                "prefill_tokens": step.prefill_tokens,
                "generated_tokens": step.generated_tokens,
                "waiting": step.waiting,
                "precision": step.precision.value,
            },
        }
