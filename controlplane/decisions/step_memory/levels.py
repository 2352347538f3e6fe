"""The memories of a pool: one for each arithmetic on each kind of machine that it was served with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from controlplane.decisions.step_memory.memory import Memory
from controlplane.decisions.step_time import Recalled
from inference_node.contract.settings import KvPrecision, Precision
from inference_node.contract.step_profile import StepArithmetic, StepProfile

# What was learned of a level counts half after so long out of force. Machines of one kind change their company by the hour, how
# their base, rows and prefill stand to each other hardly ever does.
_HALF_LIFE_S = 86_400.0

# (hardware, model, version of the engine) of each kind of node, sorted.
Machine = tuple[tuple[str, str, str], ...]


def machine_of(profiles: Sequence[StepProfile]) -> Machine:
    """What the pool's nodes are, each kind once."""
    return tuple(sorted({(profile.hardware, profile.model, profile.engine_version) for profile in profiles}))


@dataclass(frozen=True, slots=True)
class Level:
    """What a memory is of."""

    machine: Machine
    precision: Precision
    kv_precision: KvPrecision
    pruning: float

    @classmethod
    def of(cls, machine: Machine, arithmetic: StepArithmetic) -> Self:
        return cls(machine, arithmetic.precision, arithmetic.kv_precision, arithmetic.pruning)

    @property
    def key(self) -> str:
        """Its name in SQL, within its pool."""
        told = [self.machine, self.precision.value, self.kv_precision.value, self.pruning]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    @property
    def arithmetic(self) -> StepArithmetic:
        return StepArithmetic(precision=self.precision, kv_precision=self.kv_precision, pruning=self.pruning)


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """Never changed in place: a tick that fails leaves it as it was."""

    levels: Mapping[Level, Memory] = field(default_factory=dict)

    def with_level(self, level: Level, memory: Memory) -> Self:
        return self if self.levels.get(level) is memory else replace(self, levels={**self.levels, level: memory})

    def in_force(self, level: Level | None) -> Self:
        """No other than this one is; None: the nodes differ."""
        found = self
        for other, memory in self.levels.items():
            if other != level and memory.in_force_since is not None:
                found = found.with_level(other, replace(memory, in_force_since=None))
        return found

    def changed_since(self, before: "PoolMemory") -> dict[Level, Memory]:
        return {level: memory for level, memory in self.levels.items() if before.levels.get(level) is not memory}


def recall(memory: Memory | None, now: datetime) -> Recalled | None:
    """None where it says no more than the newest windows do."""
    if memory is None or not memory.is_known or memory.learned_at is None:
        return None
    share = share_left(memory, now)
    return Recalled(memory.told, memory.level, share, memory.error, memory.windows, memory.is_proven)


def share_left(memory: Memory, now: datetime) -> float:
    """How much of what was learned still counts: all of it while it is in force."""
    if memory.in_force_since is not None or memory.learned_at is None:
        return 1.0
    return float(0.5 ** (max(0.0, (now - memory.learned_at).total_seconds()) / _HALF_LIFE_S))
