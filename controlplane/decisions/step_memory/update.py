"""A memory with one more window: what the window moves, what it cannot, and when it tells of a changed machine. Pure."""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median

from controlplane.decisions.decision import StepTime
from controlplane.decisions.step_memory.box import Symmetric, Vector, dot, minimum, times
from controlplane.decisions.step_memory.memory import (
    LEAST,
    MOST,
    READY_WINDOWS,
    Memory,
    bounded,
    parts_of,
    slowed,
    weakened,
)

# Of what is known in the direction that a window tells of, what stays; of the other directions all does.
_KEPT = 0.98
# Ridge, in windows: (noise of a window / spread of the factors)^2 for 5 % and 0.3.
_RIDGE = 0.03
# A window counts as at most this far from what was expected, and the less the farther it is. What is farther off is an outlier,
# or the first of many that tell of a changed machine, which is another matter than learning (`_watched`).
SURPRISE = 1.2
# One window moves no factor by more than this, whatever it says: what is made of any step moves by no more either.
MOST_MOVED = 1.1
# When six of the last eight windows are off to one side by more than SURPRISE, the machine has changed, as the last three say.
_WATCHED, _OFF_WINDOWS, _TOLD_BY = 8, 6, 3
_LEFT_OF_IT = 0.1
# No step carries more, none is shorter or longer.
_MOST_TOKENS, _SHORTEST_S, _LONGEST_S = 1e7, 1e-6, 3600.0
_WILDEST = math.log(16.0)
# Three factors are believed when they miss windows by so much less than one level does, and no longer when they miss them by
# more; by the last forty windows or so, ten at least. Where a node's fit is right but for its level, three only follow chance.
_WINS, _LOSES, _TRIAL_SHARE, _LEAST_TRIALS = 0.97, 1.02, 1 / 40, 10
# Share of the newest window in the running error.
_ERROR_SHARE = 1 / 12
# After a change of the machine: taken for healthy again after so many windows, with no more error than that.
_HEALTHY_WINDOWS, HEALTHY_ERROR = 24, 0.10


@dataclass(frozen=True, slots=True)
class Fact:
    """A window in means: decode rows, prefill tokens, and how long a step took."""

    at: datetime
    decode_rows: float
    prefill_tokens: float
    step_s: float

    @property
    def is_sound(self) -> bool:
        """Whether some machine could do it; not for NaN."""
        tokens = 0 <= self.decode_rows <= _MOST_TOKENS and 0 <= self.prefill_tokens <= _MOST_TOKENS
        return tokens and _SHORTEST_S <= self.step_s <= _LONGEST_S


def updated(memory: Memory, fact: Fact, basis: StepTime, level: float, said_s: float | None = None) -> Memory:
    """With one more window; what cannot be true, or is no newer than the last one, changes nothing.

    basis: what the nodes expect. level: that of the newest windows, which the first one is held against. said_s: what was said
    of such a step before it came.

    Forgets where the window tells something new and nowhere else: a night with the same few rows leaves what is known of many
    (directional forgetting; Cao and Schwartz, "A directional forgetting algorithm based on the decomposition of the information
    matrix", Automatica 36, 2000, in the plainest form: the share 1 - _KEPT of what is known along the window's v). A window that
    surprises is cut down to SURPRISE, as in Huber, "Robust estimation of a location parameter", 1964, and weighs less besides.
    """
    parts = parts_of(basis, fact.decode_rows, fact.prefill_tokens)
    is_old = memory.learned_at is not None and fact.at <= memory.learned_at
    if not fact.is_sound or is_old or not (0 < sum(parts) < math.inf) or min(parts) < 0:
        return memory
    if not memory.windows:
        level = bounded(level)
        memory = replace(memory, factors=(level, level, level))
    expected_s = dot(memory.factors, parts)
    off = min(max(math.log(fact.step_s / expected_s), -_WILDEST), _WILDEST)
    a, b = _added(memory, (parts[0] / expected_s, parts[1] / expected_s, parts[2] / expected_s), off)
    least, most = memory.least_rows, memory.most_rows
    if abs(off) < math.log(SURPRISE):
        least, most = min(least if least is not None else math.inf, fact.decode_rows), max(most, fact.decode_rows)
    learned = replace(
        memory,
        a=a,
        b=b,
        windows=memory.windows + 1,
        least_rows=least,
        most_rows=most,
        offs=(*memory.offs, off)[-_WATCHED:],
        error=_running(memory, fact.step_s, said_s),
        since_change=memory.since_change + 1,
        learned_at=fact.at,
    )
    tried = _tried(learned, memory, off, math.log(fact.step_s / (memory.level * sum(parts))))
    return _watched(replace(tried, factors=_toward(memory.factors, _fitted(learned))))


def _tried(learned: Memory, before: Memory, off: float, level_off: float) -> Memory:
    """One window of the race between one level and three factors, each as it was before it; an outlier decides nothing."""
    if not before.is_ready:
        return learned
    trials = before.trials + 1
    share = max(_TRIAL_SHARE, 1 / trials)
    level, three = before.misses
    most = math.log(SURPRISE)
    level += share * (min(abs(level_off), most) - level)
    three += share * (min(abs(off), most) - three)
    limit = _LOSES if before.is_proven else _WINS
    return replace(
        learned, misses=(level, three), trials=trials, is_proven=trials >= _LEAST_TRIALS and three <= limit * level
    )


def _fitted(memory: Memory) -> Vector:
    """The factors that suit the windows best, drawn a little to `shape`; nothing else than that while it is not ready."""
    level, shape = memory.level, memory.shape
    drawn = bounded(shape[0] * level), bounded(shape[1] * level), bounded(shape[2] * level)
    if not memory.is_ready:
        return drawn
    a, b, ridge = memory.a, memory.b, _RIDGE
    matrix = (a[0] + ridge, a[1], a[2], a[3] + ridge, a[4], a[5] + ridge)
    return minimum(matrix, (b[0] + ridge * drawn[0], b[1] + ridge * drawn[1], b[2] + ridge * drawn[2]), LEAST, MOST)


def _toward(factors: Vector, aim: Vector) -> Vector:
    moved = [min(max(to, factor / MOST_MOVED), factor * MOST_MOVED) for factor, to in zip(factors, aim, strict=True)]
    return moved[0], moved[1], moved[2]


def _added(memory: Memory, v: Vector, off: float) -> tuple[Symmetric, Vector]:
    told = min(max(math.exp(off), 1 / SURPRISE), SURPRISE)
    weight = min(1.0, (math.log(SURPRISE) / abs(off)) ** 2) if off else 1.0
    along = times(memory.a, v)
    known = dot(v, along)
    lost = weight * (1 - _KEPT) / known if known > 0 else 0.0
    away = lost * dot(v, memory.b)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    a = [memory.a[place] - lost * along[i] * along[j] + weight * v[i] * v[j] for place, (i, j) in enumerate(pairs)]
    b = [memory.b[i] - away * along[i] + weight * v[i] * told for i in range(3)]
    return (a[0], a[1], a[2], a[3], a[4], a[5]), (b[0], b[1], b[2])


def _running(memory: Memory, step_s: float, said_s: float | None) -> float | None:
    if said_s is None:
        return memory.error
    error = min(abs(said_s - step_s) / step_s, 1.0)
    if memory.error is None:
        return error
    return memory.error + max(_ERROR_SHARE, 1 / (memory.windows + 1)) * (error - memory.error)


def _watched(memory: Memory) -> Memory:
    """Lets go of most of what was learned when the machine has changed, and keeps the rest at the new level."""
    limit = math.log(SURPRISE)
    slower, faster = [off for off in memory.offs if off > limit], [off for off in memory.offs if off < -limit]
    told = max(slower, faster, key=len)
    if len(told) < _OFF_WINDOWS:
        is_healthy = memory.since_change >= _HEALTHY_WINDOWS and (memory.error or 0.0) <= HEALTHY_ERROR
        return replace(memory, is_degraded=False) if memory.is_degraded and is_healthy else memory
    moved = math.exp(median(told[-_TOLD_BY:]))
    left = slowed(weakened(memory, _LEFT_OF_IT), moved)
    # A memory that never knew better has not degraded.
    was_known = memory.windows >= READY_WINDOWS + _WATCHED
    return replace(
        left, offs=(), changes=memory.changes + 1, since_change=0, is_degraded=memory.is_degraded or was_known
    )
