"""The sampler on real threads: one that computes, one that waits, and a pool without Python."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from inference_node.profiling.cpu_clock import CpuClock
from inference_node.profiling.sampler import Frame, Samples, sample
from inference_node.profiling.speedscope import to_speedscope

needs_clock = pytest.mark.skipif(CpuClock.start() is None, reason="this system does not count threads' time")


@contextmanager
def thread(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    stop = threading.Event()
    running = threading.Thread(target=work, args=(stop,), name=name)
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join()


def burn(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def idle(stop: threading.Event) -> None:
    stop.wait()


def names(samples: Samples, thread_name: str) -> set[str]:
    return {frame.name for stack in samples.threads.get(thread_name, {}) for frame in stack}


@needs_clock
class TestSample:
    def test_time_goes_to_the_thread_that_computes_and_to_its_function(self) -> None:
        with thread(burn, "burning"), thread(idle, "idle"):
            samples = sample(0.3, threading.Event(), interval_s=0.005)
        total = sum(sum(stacks.values()) for stacks in samples.threads.values())
        assert sum(samples.threads["burning"].values()) > 0.5 * total
        assert f"{__name__}.burn" in names(samples, "burning")
        assert sum(samples.threads.get("idle", {}).values()) < 0.05 * total

    def test_stacks_go_from_the_outermost_to_the_innermost(self) -> None:
        with thread(burn, "burning"):
            samples = sample(0.1, threading.Event(), interval_s=0.005)
        stack = max(samples.threads["burning"].items(), key=lambda item: item[1])[0]
        assert stack[0].name.startswith("threading.") and stack[-1].name == f"{__name__}.burn"
        assert not any(frame.file.startswith("/") for frame in stack)  # no path of this machine

    def test_ends_when_it_is_stopped(self) -> None:
        stopped = threading.Event()
        stopped.set()
        assert sample(60.0, stopped).duration_s < 30

    def test_does_not_record_itself(self) -> None:
        samples = sample(0.1, threading.Event(), interval_s=0.005)
        assert f"{__name__}.TestSample.test_does_not_record_itself" not in {
            frame.name for stacks in samples.threads.values() for stack in stacks for frame in stack
        }


def test_without_the_systems_clock_waiting_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuClock, "start", classmethod(lambda cls: None))
    with thread(idle, "idle"):
        samples = sample(0.05, threading.Event(), interval_s=0.005)
    assert not samples.is_cpu_time
    assert f"{__name__}.idle" in names(samples, "idle")


@needs_clock
def test_the_clock_counts_computing_and_not_waiting() -> None:
    clock = CpuClock.start()
    assert clock is not None
    me = threading.get_native_id()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert clock.tick()[me] >= 0.04
    time.sleep(0.05)
    assert clock.tick().get(me, 0.0) < 0.04


def test_speedscope_holds_each_frame_once_and_the_busiest_thread_first() -> None:
    outer, inner = Frame("m.outer", "m.py", 1), Frame("m.inner", "m.py", 9)
    samples = Samples(is_cpu_time=True, duration_s=2.0)
    samples.add("quiet", (outer,), 0.1)
    samples.add("busy", (outer, inner), 0.5)
    samples.add("busy", (outer, inner), 0.25)
    samples.add("busy", (outer,), 0.25)
    document: dict[str, Any] = to_speedscope(samples, "node-1", "trimtab 1")
    assert [frame["name"] for frame in document["shared"]["frames"]] == ["m.outer", "m.inner"]
    busy, quiet = document["profiles"]
    assert (busy["name"], busy["samples"], busy["weights"]) == ("busy", [[0, 1], [0]], [0.75, 0.25])
    assert (busy["type"], busy["unit"], busy["endValue"], quiet["name"]) == ("sampled", "seconds", 1.0, "quiet")
