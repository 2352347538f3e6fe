"""Sizes that steps are captured in, and which of them runs a step."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

# Rows of a step that only decodes; a step in between is padded to the next.
DECODE_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
# Tokens of a step that prefills too, and for how many of its rows logits are computed.
PREFILL_ROWS = (16, 32, 64, 128, 256, 512, 1024, 2048)
SAMPLED_ROWS = (8, 64, 512)
MAX_RUNS = DECODE_ROWS[-1]
# Sizes that lately ran the most, of those that are captured before weights come into force.
_COMMON = 4


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of one sequence. line: of the tables, where its blocks are; source: where a step left its only token."""

    tokens: Sequence[int]
    start: int
    line: int
    samples: bool
    source: int = -1


@dataclass(frozen=True, slots=True)
class StepShape:
    """rows: of the step, padded; sampled: rows with logits, padded, or None when the step only decodes, all rows for logits.

    skips: whether it reads less where activations were dropped; of use to a single row.
    """

    rows: int
    sampled: int | None
    skips: bool = False

    @property
    def outputs(self) -> int:
        return self.rows if self.sampled is None else self.sampled


EVERY_SHAPE = (
    StepShape(1, None, skips=True),
    *(StepShape(rows, None) for rows in DECODE_ROWS),
    *(
        StepShape(rows, sampled)
        for rows in PREFILL_ROWS
        for index, sampled in enumerate(SAMPLED_ROWS)
        if index == 0 or SAMPLED_ROWS[index - 1] < rows
    ),
)

# Any step fits into it.
LARGEST = StepShape(PREFILL_ROWS[-1], SAMPLED_ROWS[-1])
# Steps with a prompt that are not captured would all run in the largest, which takes twice the time of the longest of these.
_STAIRS = (StepShape(512, 64), StepShape(256, 8))


def shape_for(runs: Sequence[Run], *, prunes: bool = False) -> StepShape:
    """The smallest size that holds these runs. At most MAX_RUNS runs and PREFILL_ROWS[-1] tokens."""
    rows = sum(len(run.tokens) for run in runs)
    sampled = sum(run.samples for run in runs)
    if rows == len(runs) == sampled:
        return StepShape(_at_least(rows, DECODE_ROWS), None, skips=prunes and rows == 1)
    return StepShape(_at_least(rows, PREFILL_ROWS), _at_least(sampled, SAMPLED_ROWS))


def stand_in(shape: StepShape, captured: Collection[StepShape]) -> StepShape | None:
    """The cheapest of the captured sizes that can run a step of this one, or None. Computes the same, on more rows."""
    return min((other for other in captured if _holds(other, shape)), key=_cost, default=None)


def first_shapes(used: Iterable[StepShape]) -> list[StepShape]:
    """What to capture before weights come into force; the other sizes (EVERY_SHAPE) can follow.

    used: of the last steps. The largest comes first: what runs in none of the others runs in it, and they fit into its memory.
    A change often brings sizes that did not run before it (another budget, prompts that had to wait): hence stairs below it.
    """
    common = [shape for shape, _ in Counter(used).most_common(_COMMON)] or [StepShape(1, None)]
    most = max((shape.rows for shape in common if shape.sampled is None), default=1)
    # Room for answers that start meanwhile.
    grown = StepShape(_at_least(min(2 * most, MAX_RUNS), DECODE_ROWS), None)
    return list(dict.fromkeys([LARGEST, *common, grown, *_STAIRS]))


def _holds(other: StepShape, shape: StepShape) -> bool:
    if other.sampled is None and (shape.sampled is not None or (other.skips and not shape.skips)):
        return False
    return other.rows >= shape.rows and other.outputs >= shape.outputs


def _cost(shape: StepShape) -> tuple[int, int, bool]:
    return shape.rows, shape.outputs, shape.sampled is not None


def _at_least(count: int, sizes: Sequence[int]) -> int:
    return next(size for size in sizes if size >= count)
