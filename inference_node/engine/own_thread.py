"""Runs work that computes in a thread that ends with it, so that the engine's thread alone keeps a pool of helpers.

torch computes with OpenMP, whose GNU library keeps a pool of threads for each thread that ever computed. As soon as all pools
together have more threads than there are cores, helpers no longer spin between two products but sleep at once ("throttled" in
libgomp's env.c), and a decode step of some hundred products pays for waking them each time: 61 against 37 ms for one row of the
demo model on two cores (measured). A pool goes with its thread.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(work: Callable[[], T], name: str) -> T:
    """Result of work(), run in a new thread that has ended when this returns. Raises what it raises. Blocks."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
