"""Numbers of steps, one after the other over all replicas of a node, so that a number names one step."""

import threading


class StepCounter:
    """Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = 0

    @property
    def latest(self) -> int:
        """The number of the step that began last; 0 before the first."""
        return self._latest

    def next(self) -> int:
        """The number of a step that begins."""
        with self._lock:
            self._latest += 1
            return self._latest
