"""Ports for servers under test: no two tests that run at once are given the same, and no client is."""

import os

from inference_node.bench.ports import LOWEST, clients_start, is_free

# Processes of one run (pytest-xdist's gw0, gw1, ...) walk through ranges of their own.
MOST_PROCESSES = 8


class _Walk:
    """Those given before come again only when the whole range has been walked through."""

    def __init__(self) -> None:
        process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % MOST_PROCESSES
        self._width = (clients_start() - LOWEST) // MOST_PROCESSES
        self._start = LOWEST + process * self._width
        self._next = os.getpid() % self._width

    def give(self, count: int) -> int:
        for step in range(self._width):
            offset = (self._next + step) % self._width
            first = self._start + offset
            if offset + count <= self._width and all(map(is_free, range(first, first + count))):
                self._next = offset + count
                return first
        raise OSError(f"no {count} free ports in a row from {self._start} to {self._start + self._width - 1}")


_walk = _Walk()


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    return _walk.give(count)
