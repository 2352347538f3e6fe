"""What served windows taught of one arithmetic's steps, as three factors on what the nodes themselves expect. Pure.

A node expects of a step with so many decode rows and prefill tokens

    base + rows(decode rows) + prefill(prefill tokens)        (its parts, in seconds)

and service takes factors[0] * base + factors[1] * rows + factors[2] * prefill: other work on the machine, or requests unlike
those that the node measured, need not slow the three alike.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from statistics import median
from typing import Any, Self

from pydantic import TypeAdapter

from controlplane.decisions.decision import StepTime
from controlplane.decisions.step_memory.box import Symmetric, Vector

# How much slower, or faster, service may be than a node expects: as step_time has it.
LEAST, MOST = 0.5, 4.0
# The three are told apart from so many windows on, whose decode rows differ by this share of the most.
READY_WINDOWS, READY_SPREAD = 10, 0.3
# Two fits whose predictions are off by more than this against each other, but for their level, are of different shape.
_RESHAPED, _OTHER_LEVEL = 1.2, 4.0
# As node_fits compares fits.
_REFERENCE_ROWS, _REFERENCE_PREFILL = 16, 256


class ModelState(StrEnum):
    """learning: too few windows, nothing is said yet. level: one factor. ready: three. degraded: the machine changed lately."""

    LEARNING = "learning"
    LEVEL = "level"
    READY = "ready"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Memory:
    """`a` and `b` are the sums of v v' and v * (seconds / expected) over windows, v the parts over what was expected of them.

    factors: of base, rows and prefill, each within LEAST and MOST. shape: what they are drawn to, times their common level, as
    far as windows do not say: all alike at first, and as they were before most windows were let go of.
    misses: running means of how far, in logarithms, one level and the three factors were from a window before it came, over
    `trials` windows; is_proven: whether the three win.
    reference: the parts of a fixed step by the nodes' fit that all of it is in terms of. `windows` and the rows' range are those
    that were learned from; `offs` logarithms of seconds over what the factors said, of the last ones; `error` the running
    relative error of what was said before a window came. changes: how often the machine was found changed, the last time so
    many windows ago. in_force_since: end of the first window with this arithmetic on all nodes, while it is.
    """

    reference: Vector
    factors: Vector = (1.0, 1.0, 1.0)
    misses: tuple[float, float] = (0.0, 0.0)
    trials: int = 0
    is_proven: bool = False
    shape: Vector = (1.0, 1.0, 1.0)
    a: Symmetric = (0.0,) * 6
    b: Vector = (0.0,) * 3
    windows: int = 0
    least_rows: float | None = None
    most_rows: float = 0.0
    offs: tuple[float, ...] = ()
    error: float | None = None
    changes: int = 0
    since_change: int = 0
    is_degraded: bool = False
    learned_at: datetime | None = None
    in_force_since: datetime | None = None

    @property
    def is_known(self) -> bool:
        """Whether it says more than the newest windows alone."""
        return self.windows >= READY_WINDOWS

    @property
    def is_ready(self) -> bool:
        """Whether the three factors can be told apart; whether that makes them right is for `is_proven` to say."""
        least = self.most_rows if self.least_rows is None else self.least_rows
        return self.is_known and self.most_rows > 0 and self.most_rows - least >= READY_SPREAD * self.most_rows

    @property
    def state(self) -> ModelState:
        if self.is_degraded:
            return ModelState.DEGRADED
        if not self.is_known:
            return ModelState.LEARNING
        return ModelState.READY if self.is_ready and self.is_proven else ModelState.LEVEL

    @property
    def level(self) -> float:
        """The one factor that fits all windows best; 1 where there are none."""
        weight = self.a[0] + self.a[3] + self.a[5] + 2 * (self.a[1] + self.a[2] + self.a[4])
        return bounded(sum(self.b) / weight) if weight > 0 else 1.0

    @property
    def told(self) -> Vector:
        """What is said of base, rows and prefill: the factors where they are proven, else the one level."""
        return self.factors if self.is_ready and self.is_proven else (self.level, self.level, self.level)

    @property
    def fast_error(self) -> float | None:
        """The median of how far the last eight windows were from what the factors say."""
        return median(math.exp(abs(off)) - 1 for off in self.offs) if self.offs else None

    def to_json(self) -> dict[str, Any]:
        """Floats come back from it as they were."""
        data: dict[str, Any] = _MEMORY.dump_python(self, mode="json", exclude_none=True)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises ValidationError for what no version wrote."""
        return _MEMORY.validate_python(data)  # type: ignore[return-value]  # the adapter is made for this very class


def parts_of(step: StepTime, decode_rows: float, prefill_tokens: float) -> Vector:
    """Seconds of the base, of the rows and of the prefill."""
    rows = step.row_s * decode_rows + step.curve_s(decode_rows)
    return step.base_s, rows, step.prefill_token_s * prefill_tokens


def reference_of(step: StepTime) -> Vector:
    return parts_of(step, _REFERENCE_ROWS, _REFERENCE_PREFILL)


def moved_to(memory: Memory, reference: Vector) -> Memory:
    """In terms of another fit of the nodes: the same seconds, or a new beginning where it is of another shape."""
    if reference == memory.reference:
        return memory
    before, after = _points(memory.reference), _points(reference)
    if not all(point > 0 for point in (*before, *after)):
        return _anew(memory, reference)
    ratios = [new / old for new, old in zip(after, before, strict=True)]
    if max(ratios) > _RESHAPED * min(ratios) or max(ratios) > _OTHER_LEVEL or min(ratios) < 1 / _OTHER_LEVEL:
        return _anew(memory, reference)
    d = [new / old if old > 0 and new > 0 else 1.0 for new, old in zip(reference, memory.reference, strict=True)]
    a, b = memory.a, memory.b
    factors = [bounded(factor / by) for factor, by in zip(memory.factors, d, strict=True)]
    shape = [each / by for each, by in zip(memory.shape, d, strict=True)]
    return replace(
        memory,
        reference=reference,
        factors=(factors[0], factors[1], factors[2]),
        shape=(shape[0], shape[1], shape[2]),
        a=(a[0] * d[0] * d[0], a[1] * d[0] * d[1], a[2] * d[0] * d[2], a[3] * d[1] * d[1], a[4] * d[1] * d[2],
           a[5] * d[2] * d[2]),
        b=(b[0] * d[0], b[1] * d[1], b[2] * d[2]),
    )  # fmt: skip


def weakened(memory: Memory, share: float) -> Memory:
    """The same factors, with so much less weight against what comes."""
    a, b, factors, level = memory.a, memory.b, memory.factors, memory.level
    return replace(
        memory,
        shape=(factors[0] / level, factors[1] / level, factors[2] / level),
        a=(a[0] * share, a[1] * share, a[2] * share, a[3] * share, a[4] * share, a[5] * share),
        b=(b[0] * share, b[1] * share, b[2] * share),
    )


def slowed(memory: Memory, by: float) -> Memory:
    """As if all of its windows had taken so many times as long."""
    factors, b = memory.factors, memory.b
    return replace(
        memory,
        factors=(bounded(factors[0] * by), bounded(factors[1] * by), bounded(factors[2] * by)),
        b=(b[0] * by, b[1] * by, b[2] * by),
    )


def _points(parts: Vector) -> Vector:
    """A single row, the reference's rows, and those with its prefill."""
    base, rows, prefill = parts
    return base + rows / _REFERENCE_ROWS, base + rows, base + rows + prefill


def _anew(memory: Memory, reference: Vector) -> Memory:
    """What was told of it stands: a refit is no change of the machine, nor a recovery."""
    return Memory(
        reference, changes=memory.changes, since_change=memory.since_change, is_degraded=memory.is_degraded,
        learned_at=memory.learned_at, in_force_since=memory.in_force_since,
    )  # fmt: skip


def bounded(factor: float) -> float:
    return min(max(factor, LEAST), MOST)


_MEMORY: TypeAdapter[Memory] = TypeAdapter(Memory)
