"""What one step computes."""

from dataclasses import dataclass

from inference_node.scheduling.sequence import Sequence


@dataclass(slots=True)  # not frozen: that triples the time to make one, and a step makes hundreds
class ScheduledRow:
    """A run of one sequence's tokens, [start, start + count). `samples` when it reaches the end, so that a token follows.

    Nobody changes one after the scheduler made it.
    """

    sequence: Sequence
    start: int
    count: int
    samples: bool
    is_decode: bool


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """Rows of one step, decode rows first. `preempted` lost their blocks to make room and wait again.

    `context_tokens` is the sum, over all rows, of the tokens before them that they attend to.
    """

    rows: tuple[ScheduledRow, ...]
    preempted: tuple[Sequence, ...] = ()
    prefix_queries: int = 0
    prefix_hits: int = 0
    context_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(row.count for row in self.rows)

    @property
    def num_decode_rows(self) -> int:
        return sum(row.is_decode for row in self.rows)

    @property
    def num_prefill_tokens(self) -> int:
        return sum(row.count for row in self.rows if not row.is_decode)
