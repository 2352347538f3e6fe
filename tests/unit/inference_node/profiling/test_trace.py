"""A trace of torch's operations with our steps among them."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inference_node.contract.settings import Precision
from inference_node.engine.listener import StepRecord
from inference_node.profiling import trace as traces


def step(number: int, started_s: float, duration_s: float = 0.01) -> StepRecord:
    counts = dict.fromkeys(
        ("prefill_rows", "preemptions", "prefix_queries", "prefix_hits", "running", "blocks_used", "blocks_total"), 0
    )
    return StepRecord(
        step=number,
        started_s=started_s,
        duration_s=duration_s,
        precision=Precision.BF16,
        decode_rows=3,
        prefill_tokens=0,
        generated_tokens=3,
        waiting=1,
        batch_cap=8,
        pruned_ratio=0.0,
        **counts,
    )


@contextmanager
def stepping(on_step: Callable[[StepRecord], None]) -> Iterator[None]:
    """An engine's thread: a product, and the word that a step was run, over and over."""
    stop = threading.Event()

    def run() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            started = time.monotonic()
            with torch.inference_mode():
                torch.ones(32, 32) @ torch.ones(32, 32)
            on_step(step(number, started, time.monotonic() - started))
            time.sleep(0.001)

    thread = threading.Thread(target=run, name="engine")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


def test_holds_other_threads_operations_within_our_steps(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.json.gz"
    traces.trace(0.2, threading.Event(), stepping, path)
    events = read(path)
    steps = [event for event in events if event.get("cat") == "step"]
    products = [event for event in events if event.get("name") == "aten::mm"]
    assert steps and products
    first = products[len(products) // 2]
    inside = [s for s in steps if s["ts"] <= first["ts"] and first["ts"] + first["dur"] <= s["ts"] + s["dur"]]
    assert len(inside) == 1  # on one clock to the microsecond, or nearly
    assert inside[0]["args"]["decode_rows"] == 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_ends_after_enough_steps(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.json.gz"
    traces.trace(60.0, threading.Event(), stepping, path)
    assert sum(event.get("cat") == "step" for event in read(path)) == traces.MOST_STEPS


def test_steps_lie_where_they_were_on_the_wall_clock() -> None:
    name, one = traces.step_events([step(1, 5.0)], base_ns=1_000_000_000, monotonic_at_ns=2_000_000_000)
    assert name["ph"] == "M"
    assert (one["ts"], one["dur"], one["name"]) == (6e6, 1e4, "step 1")


def test_each_replica_has_a_row_of_its_own() -> None:
    events = list(traces.step_events([step(1, 5.0), replace(step(2, 5.0), replica=1)], 0, 0))
    assert [event["args"]["name"] for event in events[:2]] == ["steps of replica 0", "steps of replica 1"]
    assert [event["tid"] for event in events[2:]] == [0, 1]
