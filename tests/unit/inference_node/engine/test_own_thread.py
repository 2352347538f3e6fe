"""Work in a thread that ends with it, and takes its pool of compute threads along."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from inference_node.engine.own_thread import in_own_thread


def test_gives_the_result_from_a_thread_that_has_ended() -> None:
    thread = in_own_thread(threading.current_thread, "worker")
    assert thread is not threading.current_thread()
    assert thread.name == "worker" and not thread.is_alive()


def test_raises_what_the_work_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_own_thread(lambda: 1 // 0, "worker")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts the system's threads, which needs Linux")
def test_no_compute_thread_is_left_behind() -> None:
    """A pool that stays behind makes every step of the engine's own thread wait for helpers to wake up."""

    def compute() -> set[str]:
        torch.set_num_threads(2)
        torch.ones(2_000_000).sum()
        return _threads()

    threads = torch.get_num_threads()
    try:
        in_own_thread(compute, "worker")  # torch starts a thread or two of its own, once
        before = _threads()
        during = in_own_thread(compute, "worker") - before
        assert len(during) >= 2  # itself and its helper
        until = time.monotonic() + 30
        while during & _threads():  # helpers are told to go and do so in their own time
            assert time.monotonic() < until, "the pool is still there"
            time.sleep(0.001)
    finally:
        torch.set_num_threads(threads)


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))
