"""Where the engine's threads run: how many, and on which CPUs, so that the weights they read are in memory that is near."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from inference_node.config import ConfigInvalid
from inference_node.engine.cpu import NumaNode, cpu_quota, parse_cpu_list, read_numa_nodes, usable_cpus

log = structlog.get_logger("engine.placement")


@dataclass(frozen=True, slots=True)
class Placement:
    """`threads` compute, on `cpus`; None leaves it to the system. `numa_node` has those CPUs, where one has all."""

    threads: int
    cpus: frozenset[int] | None = None
    numa_node: int | None = None

    def enter(self) -> bool:
        """Binds the calling thread, and those that it starts from now on; whether it is where it should be.

        What such a thread writes first lies in the memory that is near it, by the system's usual policy. Where the system does
        not let it, nothing happens: running anywhere is better than not at all.
        """
        if self.cpus is None:
            return True
        try:
            os.sched_setaffinity(0, self.cpus)
        except (OSError, AttributeError) as error:
            log.warning("threads_not_bound", cpus=sorted(self.cpus), reason=str(error))
            return False
        return True


def place_here(affinity: str, threads: int | None, replicas: int | Literal["auto"] = 1) -> tuple[Placement, ...]:
    """As `place_replicas`, on this machine: CPUs that the container's cpuset leaves out do not count."""
    return place_replicas(read_numa_nodes(usable_cpus()), affinity, threads, replicas, cpu_quota())


def place_replicas(
    nodes: Sequence[NumaNode],
    affinity: str,
    threads: int | None,
    replicas: int | Literal["auto"],
    quota: float | None = None,
) -> tuple[Placement, ...]:
    """One placement for each replica; their cores are apart. Raises ConfigInvalid.

    `auto` is one replica for each NUMA node that has cores to compute on, within the container's quota; one where the system is
    to place threads. `threads` are those of all replicas together.
    """
    if affinity == "off":
        return _unbound(nodes, threads, 1 if replicas == "auto" else replicas, quota)
    within = _within(nodes, affinity)
    if isinstance(replicas, int):
        count = replicas
    else:
        count = len(within) if quota is None else max(1, min(len(within), math.floor(quota)))
    if count == 1:
        return (place(nodes, affinity, threads, quota),)
    each = _threads_each(within, threads, count, quota)
    return tuple(
        Placement(min(each, len(cores)), frozenset(core[0] for core in cores[:each]), node)
        for node, cores in _shares(within, count)
    )


def _unbound(nodes: Sequence[NumaNode], threads: int | None, count: int, quota: float | None) -> tuple[Placement, ...]:
    if count == 1:
        return (place(nodes, "off", threads, quota),)
    return (Placement(_threads_each(nodes, threads, count, quota)),) * count


def _threads_each(nodes: Sequence[NumaNode], threads: int | None, count: int, quota: float | None) -> int:
    """Raises ConfigInvalid when there are more replicas than cores."""
    num_cores = sum(len(node.cores) for node in nodes)
    allowed = num_cores if quota is None else max(1, min(num_cores, math.ceil(quota)))
    if count > allowed:
        raise ConfigInvalid(
            f"NODE_REPLICAS={count}: each needs a core of its own, and this process may use {allowed}. "
            "Lower it, or give more CPUs."
        )
    return max(1, (threads or allowed) // count)


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
    within = _within(nodes, affinity)
    named = [core for node in within for core in node.cores]
    only = within[0].number if len(within) == 1 else None
    # CPUs that were named are used as they are, two of a core, too; a node is its cores.
    cpus = frozenset(core[0] for core in named) if affinity.startswith("numa:") else parse_cpu_list(affinity)
    return Placement(threads or max(1, min(allowed, len(named))), cpus, only)


def _auto(nodes: Sequence[NumaNode], threads: int | None, allowed: int) -> Placement:
    if len(nodes) == 1:
        return Placement(threads or allowed)
    nearest = max(nodes, key=lambda node: (node.free_bytes, len(node.cores), -node.number))
    if threads is not None and threads > len(nearest.cores):  # more than a node has was asked for by name
        return Placement(threads)
    cpus = frozenset(core[0] for core in nearest.cores)
    return Placement(threads or min(allowed, len(nearest.cores)), cpus, nearest.number)


def _within(nodes: Sequence[NumaNode], affinity: str) -> tuple[NumaNode, ...]:
    """The nodes and cores that a wish leaves. Raises ConfigInvalid."""
    if affinity == "auto":
        return tuple(nodes)
    there = {cpu for node in nodes for core in node.cores for cpu in core}
    if affinity.startswith("numa:"):
        found = tuple(node for node in nodes if affinity == f"numa:{node.number}")
        if not found:
            have = ", ".join(f"numa:{node.number}" for node in nodes)
            raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: this process may run on {have} only")
        return found
    try:
        cpus = parse_cpu_list(affinity)
    except ValueError:
        raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: write auto, off, numa:0, or CPUs as in 0-7,16") from None
    if not cpus or not cpus <= there:
        have = ",".join(map(str, sorted(there)))
        raise ConfigInvalid(f"NODE_CPU_AFFINITY={affinity}: this process may run on CPUs {have} only")
    left = []
    for node in nodes:
        cores = [tuple(cpu for cpu in core if cpu in cpus) for core in node.cores]
        if any(cores):
            left.append(NumaNode(node.number, tuple(core for core in cores if core), node.free_bytes))
    return tuple(left)


def _shares(nodes: Sequence[NumaNode], count: int) -> list[tuple[int, tuple[tuple[int, ...], ...]]]:
    """Cuts nodes' cores into `count` shares, none across two nodes, as even as that allows: (node, cores) of each."""
    parts = [0] * len(nodes)
    for _ in range(count):
        parts[max(range(len(nodes)), key=lambda i: len(nodes[i].cores) / (parts[i] + 1))] += 1
    return [
        (node.number, node.cores[len(node.cores) * i // num : len(node.cores) * (i + 1) // num])
        for node, num in zip(nodes, parts, strict=True)
        for i in range(num)
    ]
