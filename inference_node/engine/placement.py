"""Where the engine's threads run: how many, and on which CPUs, so that the weights they read are in memory that is near."""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from inference_node.config import ConfigInvalid
from inference_node.engine.cpu import NumaNode, cpu_quota, parse_cpu_list, read_numa_nodes, usable_cpus


@dataclass(frozen=True, slots=True)
class Placement:
    """`threads` compute, on `cpus`; None leaves it to the system."""

    threads: int
    cpus: frozenset[int] | None = None

    def enter(self) -> None:
        """Binds the calling thread, and those that it starts from now on. Nothing happens where the system cannot."""
        if self.cpus is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # CPUs taken away since: running anywhere is better than not at all
                os.sched_setaffinity(0, self.cpus)


def place_here(affinity: str, threads: int | None) -> Placement:
    """As `place`, on this machine."""
    return place(read_numa_nodes(usable_cpus()), affinity, threads, cpu_quota())


def place(nodes: Sequence[NumaNode], affinity: str, threads: int | None, quota: float | None = None) -> Placement:
    """The placement that is wished for. Raises ConfigInvalid when the CPUs asked for are not there.

    `auto` computes on physical cores, since two threads of a core share the units that multiply, and where there are several
    NUMA nodes on those of one, the one with most free memory, since other nodes' is farther away. `off` leaves it to the system;
    `0-7,16` and `numa:1` name the CPUs. By itself never more threads than the container's quota, which would stop them all.
    """
    cores = [core for node in nodes for core in node.cores]
    allowed = len(cores) if quota is None else max(1, min(len(cores), math.ceil(quota)))
    if affinity == "off":
        return Placement(threads or allowed)
    if affinity == "auto":
        return _auto(nodes, threads, allowed)
    cpus = _named(nodes, affinity)
    return Placement(threads or max(1, min(allowed, sum(bool(cpus & set(core)) for core in cores))), cpus)


def _auto(nodes: Sequence[NumaNode], threads: int | None, allowed: int) -> Placement:
    if len(nodes) == 1:
        return Placement(threads or allowed)
    nearest = max(nodes, key=lambda node: (node.free_bytes, len(node.cores), -node.number))
    if threads is not None and threads > len(nearest.cores):  # more than a node has was asked for by name
        return Placement(threads)
    return Placement(threads or min(allowed, len(nearest.cores)), frozenset(core[0] for core in nearest.cores))


def _named(nodes: Sequence[NumaNode], affinity: str) -> frozenset[int]:
    there = {cpu for node in nodes for core in node.cores for cpu in core}
    if affinity.startswith("numa:"):
        found = [node for node in nodes if affinity == f"numa:{node.number}"]
        if not found:
            have = ", ".join(f"numa:{node.number}" for node in nodes)
            raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: this process may run on {have} only")
        return frozenset(core[0] for core in found[0].cores)
    try:
        cpus = parse_cpu_list(affinity)
    except ValueError:
        raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: write auto, off, numa:0, or CPUs as in 0-7,16") from None
    if not cpus or not cpus <= there:
        have = ",".join(map(str, sorted(there)))
        raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: this process may run on CPUs {have} only")
    return cpus
