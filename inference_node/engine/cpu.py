"""What the system tells of its processor: name, instruction sets, which CPUs share a core, and which memory is near."""

import contextlib
import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = Path("/sys/devices/system")
_CPUINFO = Path("/proc/cpuinfo")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Arm's /proc/cpuinfo has numbers only. Source: Arm's Technical Reference Manuals, "MIDR_EL1"; part numbers of implementer 0x41.
_ARM_PARTS = {
    "0xd08": "Cortex-A72",
    "0xd0c": "Neoverse N1",
    "0xd40": "Neoverse V1",
    "0xd49": "Neoverse N2",
    "0xd4f": "Neoverse V2",
    "0xd84": "Neoverse V3",
    "0xd8e": "Neoverse N3",
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """One processor model; all of a machine's are taken to be alike. `features` in Linux' words."""

    model: str
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class NumaNode:
    """Cores whose memory is equally near: each is the logical CPUs that share it, ascending. `free_bytes` of that memory."""

    number: int
    cores: tuple[tuple[int, ...], ...]
    free_bytes: int = 0


def read_cpu() -> Cpu:
    """This machine's; without /proc/cpuinfo (macOS) by name alone."""
    with contextlib.suppress(OSError):
        return parse_cpuinfo(_CPUINFO.read_text())
    return Cpu(platform.processor() or platform.machine(), frozenset())


def parse_cpuinfo(text: str) -> Cpu:
    """/proc/cpuinfo of x86 and Arm. Features that only some cores have do not count."""
    model, part, implementer = "", "", ""
    features: frozenset[str] | None = None
    for line in text.splitlines():
        key, _, value = (word.strip() for word in line.partition(":"))
        match key:
            case "model name":
                model = value
            case "CPU implementer":
                implementer = value
            case "CPU part":
                part = value
            case "flags" | "Features":
                own = frozenset(value.split())
                features = own if features is None else features & own
    if not model and part:
        known = _ARM_PARTS.get(part) if implementer == "0x41" else None
        model = f"Arm {known}" if known else f"Arm, implementer {implementer}, part {part}"
    return Cpu(model, features or frozenset())


def usable_cpus() -> frozenset[int]:
    """Logical CPUs that this thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota() -> float | None:
    """CPUs' worth of time that the container gives (cgroup v2, cpu.max), or None when it does not limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text().split()
        return float(quota) / float(period)
    return None


def read_numa_nodes(usable: Collection[int], root: Path = _SYSTEM) -> tuple[NumaNode, ...]:
    """Nodes with usable CPUs. One node of one-CPU cores where the system does not tell."""
    nodes = []
    for folder in sorted(root.glob("node/node[0-9]*"), key=lambda folder: int(folder.name[4:])):
        with contextlib.suppress(OSError, ValueError):
            mine = parse_cpu_list((folder / "cpulist").read_text()) & frozenset(usable)
            if mine:
                nodes.append(NumaNode(int(folder.name[4:]), _cores(mine, root), _free_bytes(folder)))
    return tuple(nodes) or (NumaNode(0, _cores(frozenset(usable), root)),)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Linux' way to write sets of CPUs: 0-3,8. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def _cores(cpus: frozenset[int], root: Path) -> tuple[tuple[int, ...], ...]:
    cores = set()
    for cpu in cpus:
        siblings = frozenset({cpu})
        with contextlib.suppress(OSError, ValueError):
            siblings = parse_cpu_list((root / f"cpu/cpu{cpu}/topology/thread_siblings_list").read_text()) & cpus
        cores.add(tuple(sorted(siblings)) or (cpu,))
    return tuple(sorted(cores))


def _free_bytes(folder: Path) -> int:
    """`Node 0 MemFree:  1234 kB`."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "meminfo").read_text().splitlines():
            if "MemFree:" in line:
                return int(line.split()[-2]) * 1024
    return 0
