"""One window learned, and the step times of every precision told with what is remembered. Pure: the controller's tick, the replay
and the tests call the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controlplane.decisions.decision import StepTime, Workload
from controlplane.decisions.node_fits import compared_parts, offered_at, offered_step_times
from controlplane.decisions.step_memory.levels import Level, Machine, PoolMemory, machine_of, recall, share_left
from controlplane.decisions.step_memory.memory import Memory, moved_to, reference_of, slowed, weakened
from controlplane.decisions.step_memory.update import Fact, updated
from controlplane.decisions.step_time import Recalled, facts_of, fit_step_times, probed, shift_of, slowdown_of
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepArithmetic, StepProfile, StepSample

# Control-plane design 2.3: a node that has just started is still filling its caches, and tells of nothing that lasts.
STARTED_S = 120.0
# A change of arithmetic drains what ran before it; as long as canaries are not looked at after one.
CHANGED_S = 30.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What the pool's nodes are at a tick. level: what all of them compute with, by their own word; None where they differ or
    it is not known. newest_start: of the node that started last."""

    profiles: Sequence[StepProfile]
    settings: EngineSettings
    level: StepArithmetic | None
    newest_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    memory: PoolMemory
    step_times: tuple[StepTime, ...]


def learn_step_times(
    memory: PoolMemory, pool: Serving, windows: Sequence[Observation], workload: Workload | None, now: datetime
) -> Learned:
    """windows: those since the settings in force compute as they do, oldest first; the last one is learned from, if it is new."""
    cells = cells_of(pool.profiles, StepArithmetic.of(pool.settings))
    offered = offered_step_times(pool.profiles, pool.settings, workload)
    machine = machine_of(pool.profiles)
    level = None if pool.level is None else Level.of(machine, pool.level)
    memory = memory.in_force(level)
    if level is not None and windows:
        basis = _basis(pool, level, offered, workload)
        if basis is not None:
            known = memory.levels.get(level)
            memory = _passed_on(memory.with_level(level, _learned(known, level, basis, pool, windows)), level, known)
    recalled = _recalled(memory, machine, pool, now)
    return Learned(memory, fit_step_times(cells, windows, pool.settings.precision, offered, recalled))


def cells_of(profiles: Sequence[StepProfile], level: StepArithmetic) -> list[StepSample]:
    """The nodes' measured cells under that pruning; others would bend the line."""
    return [cell for profile in profiles for cell in profile.cells if cell.pruning == level.pruning]


def _basis(pool: Serving, level: Level, offered: Sequence[StepTime], workload: Workload | None) -> StepTime | None:
    arithmetic = level.arithmetic
    if arithmetic.model_copy(update={"precision": pool.settings.precision}) == StepArithmetic.of(pool.settings):
        found = next((step for step in offered if step.precision is level.precision), None)
    else:  # a rollout that changes pruning, or keys and values, has reached the nodes and is not over yet
        found = offered_at(pool.profiles, arithmetic, pool.settings, workload)
    return found or _probed(pool.profiles, arithmetic)


def _probed(profiles: Sequence[StepProfile], level: StepArithmetic) -> StepTime | None:
    return probed([cell for cell in cells_of(profiles, level) if cell.precision is level.precision])


def _reference(profiles: Sequence[StepProfile], level: StepArithmetic) -> tuple[float, float, float] | None:
    found = compared_parts(profiles, level)
    if found is None and (probe := _probed(profiles, level)) is not None:
        return reference_of(probe)
    return found


def _learned(
    known: Memory | None, level: Level, basis: StepTime, pool: Serving, windows: Sequence[Observation]
) -> Memory:
    reference, seen = _reference(pool.profiles, level.arithmetic), windows[-1]
    assert reference is not None, "what has a basis has a reference"
    memory = Memory(reference) if known is None else moved_to(known, reference)
    if memory.in_force_since is None:
        # Back in force: what is old gives way the sooner.
        aged = weakened(memory, share_left(memory, seen.window_end))
        memory = replace(aged, in_force_since=seen.window_end)
    facts = facts_of([seen])
    if not facts or not _is_settled(memory, pool, seen):
        return memory
    rows, prefill, step_s = facts[0]
    before = facts_of([window for window in windows[:-1] if _is_settled(memory, pool, window)])
    said_s = _said(memory, basis, before).at(rows, prefill)
    return updated(
        memory, Fact(seen.window_end, rows, prefill, step_s), basis, slowdown_of(basis, [*before, *facts]), said_s
    )


def _said(memory: Memory, basis: StepTime, before: Sequence[tuple[float, float, float]]) -> StepTime:
    """As `fit_step_times` would have told from the windows before."""
    if not (memory.is_known and memory.is_proven):
        return basis.scaled(slowdown_of(basis, before))
    shape = basis.by_parts(*memory.told)
    return shape.scaled(shift_of(shape, before))


def _passed_on(memory: PoolMemory, level: Level, known: Memory | None) -> PoolMemory:
    """What changed under one arithmetic is the machine's: what is remembered of the others on it changes as much."""
    learned = memory.levels[level]
    if known is None or not known.is_known or learned.windows == 0 or learned.changes != known.changes + 1:
        return memory
    by = learned.level / known.level
    for other, left in memory.levels.items():
        if other != level and other.machine == level.machine:
            memory = memory.with_level(other, slowed(left, by))
    return memory


def _is_settled(memory: Memory, pool: Serving, seen: Observation) -> bool:
    """Whether all of the window came after the change to this arithmetic, and after the last node's start, with a distance."""
    begin = seen.window_end - timedelta(seconds=seen.window_s)
    assert memory.in_force_since is not None
    if begin < memory.in_force_since + timedelta(seconds=CHANGED_S):
        return False
    return pool.newest_start is None or begin >= pool.newest_start + timedelta(seconds=STARTED_S)


def _recalled(memory: PoolMemory, machine: Machine, pool: Serving, now: datetime) -> dict[Precision, Recalled]:
    """Of each precision under the pruning and the format of keys and values in force."""
    found: dict[Precision, Recalled] = {}
    wanted = StepArithmetic.of(pool.settings)
    for precision in Precision:
        arithmetic = wanted.model_copy(update={"precision": precision})
        known = memory.levels.get(Level.of(machine, arithmetic))
        reference = None if known is None else _reference(pool.profiles, arithmetic)
        if known is None or reference is None:
            continue
        recalled = recall(moved_to(known, reference), now)
        if recalled is not None:
            found[precision] = recalled
    return found
