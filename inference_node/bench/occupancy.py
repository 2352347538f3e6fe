"""Who used the processor during a measurement: the server under test, the client, everybody else, and the hypervisor.

A figure taken while a neighbour computes is worth little, and only the counters of that very window can tell.
Source: Linux, proc_stat(5) and proc_pid_stat(5); shares are of all cores together.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Beyond it a run is marked as disturbed: an OpenMP engine waits at each barrier for the thread that lost its core.
MAX_FOREIGN_RATIO = 0.05

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Shares of all cores' time in one window, 0 to 1. What is missing to 1 was idle."""

    server_ratio: float
    client_ratio: float
    foreign_ratio: float
    stolen_ratio: float

    @property
    def is_disturbed(self) -> bool:
        return self.foreign_ratio + self.stolen_ratio > MAX_FOREIGN_RATIO


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment, in seconds of processor time."""

    at_s: float
    cores: int
    busy_s: float
    stolen_s: float
    server_s: float
    client_s: float

    def until(self, later: "Reading") -> Occupancy:
        """The window between the two."""
        whole = max(1e-9, (later.at_s - self.at_s) * self.cores)
        server, client = later.server_s - self.server_s, later.client_s - self.client_s
        # The kernel counts in ticks of 10 ms, so small windows may come out a little below nothing.
        foreign = max(0.0, later.busy_s - self.busy_s - server - client)
        shares = (server, client, foreign, later.stolen_s - self.stolen_s)
        return Occupancy(*(round(max(0.0, seconds) / whole, 4) for seconds in shares))


def take_reading(server_pid: int | None) -> Reading:
    """Now, with the server's whole process tree, and this process as the client. None: no server of ours to account for."""
    user, nice, system, _, _, irq, softirq, steal = (int(field) * _TICK_S for field in _first_line().split()[1:9])
    server_s = sum(_cpu_s(process) for process in tree(server_pid)) if server_pid is not None else 0.0
    return Reading(
        at_s=time.perf_counter(),
        cores=os.cpu_count() or 1,
        busy_s=user + nice + system + irq + softirq,
        stolen_s=steal,
        server_s=server_s,
        client_s=time.process_time(),
    )


def tree(pid: int) -> Iterator[psutil.Process]:
    """A process and all below it that still live."""
    try:
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def peak_rss_bytes(pid: int) -> int:
    """Largest resident memory so far, summed over the tree. Pages shared between its processes count for each of them."""
    return sum(_high_water_bytes(process.pid) for process in tree(pid))


def rss_bytes(pid: int) -> int:
    """Resident memory now, summed over the tree."""
    total = 0
    for process in tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _high_water_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _first_line() -> str:
    with _STAT.open() as stat:
        return stat.readline()
