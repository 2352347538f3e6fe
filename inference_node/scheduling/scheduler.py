"""Who runs in the next step: decode first, prefill chunks into what is left of the token budget, preempt last."""

from collections.abc import Callable
from dataclasses import dataclass

from inference_node.contract.settings import EngineSettings, KnobBounds, SchedulingPolicy
from inference_node.scheduling.batch import ScheduledBatch, ScheduledRow
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.reflex import LatencyReflex
from inference_node.scheduling.sequence import FinishReason, Sequence, SequenceStatus

# A request that waited this long goes before any policy's favourites. SGLang's longest-prefix policy without such a bound left
# cold prompts waiting for 20 to 60 s (sglang #31710).
AGING_BOUND_S = 10.0
# Of a long queue, the policy `prefix` looks up only the oldest: a look-up hashes the whole prompt.
_PREFIX_WINDOW = 64
# When decode rows alone would fill the budget, this part of it is kept for prompts.
_PREFILL_SHARE = 8


@dataclass(slots=True)
class _Building:
    rows: list[ScheduledRow]
    preempted: list[Sequence]
    budget: int
    queries: int = 0
    hits: int = 0


class Scheduler:
    """Owns the waiting and running sequences. Single-threaded; `num_waiting` and `num_running` may be read from anywhere.

    `numerics` names the arithmetic in force and seeds prefix hashes. No call raises for lack of blocks, but a sequence that
    could never fit must not be added: the pool has to hold the longest allowed sequence.
    """

    def __init__(self, blocks: BlockManager, settings: EngineSettings, numerics: str) -> None:
        self.blocks = blocks
        self.numerics = numerics
        self.settings = settings
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self._step = 0
        self._reflex = _reflex_for(settings, None)

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def batch_cap(self) -> int:
        """Sequences that may run now: the knob, moved by the reflex if it has a target."""
        return self._reflex.cap

    def apply(self, settings: EngineSettings, numerics: str, bounds: KnobBounds | None = None) -> None:
        """New settings from the next step on. Lowering the cap drains; nothing is aborted."""
        old, self.settings, self.numerics = self.settings, settings, numerics
        fresh = _reflex_for(settings, bounds)
        kept = (old.max_batch_size, old.target_itl_ms) == (settings.max_batch_size, settings.target_itl_ms)
        if not (kept and (fresh.low, fresh.high) == (self._reflex.low, self._reflex.high)):
            self._reflex = fresh

    def add(self, sequence: Sequence) -> None:
        assert self.blocks.blocks_for(sequence.num_tokens) <= self.blocks.num_blocks
        self.waiting.append(sequence)

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """Takes a sequence out, wherever it is, and gives its blocks back."""
        if sequence.status is SequenceStatus.FINISHED:
            return
        (self.running if sequence.status is SequenceStatus.RUNNING else self.waiting).remove(sequence)
        self.blocks.release(sequence)
        sequence.status = SequenceStatus.FINISHED
        sequence.finish_reason = reason

    def gather_delay_s(self, now: float) -> float:
        """How long an idle engine should still gather requests before its next step; 0 to go at once."""
        if self.running or not self.waiting or len(self.waiting) >= self.batch_cap:
            return 0.0
        oldest = min(sequence.arrived_s for sequence in self.waiting)
        return max(0.0, oldest + self.settings.batch_wait_ms / 1e3 - now)

    def schedule(self, now: float) -> ScheduledBatch:
        """The next step's rows, with blocks in place for each. Empty when nothing waits or runs."""
        self._step += 1
        building = _Building([], [], self.settings.max_batched_tokens)
        decoding = [sequence for sequence in self.running if sequence.is_decoding]
        prefilling = [sequence for sequence in self.running if not sequence.is_decoding]
        room = building.budget
        has_starters = bool(prefilling) or (bool(self.waiting) and len(self.running) < self.batch_cap)
        if has_starters and len(decoding) >= room:
            room -= max(1, room // _PREFILL_SHARE)
        if len(decoding) > room:  # the ones left out last time go first
            decoding = sorted(decoding, key=lambda sequence: sequence.last_scheduled_step)[:room]
        for sequence in decoding:
            self._continue(sequence, building)
        for sequence in sorted(prefilling, key=lambda sequence: sequence.last_scheduled_step):
            self._continue(sequence, building)
        if not building.preempted:
            self._admit(building, now)
        return ScheduledBatch(tuple(building.rows), tuple(building.preempted), building.queries, building.hits)

    def complete(self, batch: ScheduledBatch) -> None:
        """The batch was computed: its tokens have their KV, and full blocks can be found. Call before appending new tokens."""
        for row in batch.rows:
            if row.sequence.status is SequenceStatus.RUNNING:
                row.sequence.num_computed = row.start + row.count
                if self.settings.prefix_cache:
                    self.blocks.record_computed(row.sequence, self.numerics)

    def observe(self, step_s: float, decode_rows: int) -> None:
        """Tells the reflex how long a step took."""
        self._reflex.observe(step_s, decode_rows, len(self.running) + len(self.waiting))

    def _continue(self, sequence: Sequence, building: _Building) -> None:
        count = min(sequence.num_uncomputed, building.budget)
        if sequence.status is not SequenceStatus.RUNNING or count <= 0:
            return
        while not self.blocks.can_grow(sequence, sequence.num_computed + count):
            victim = self._victim(building)
            self._preempt(victim, building)
            if victim is sequence:
                return
        self._place(sequence, count, building)

    def _victim(self, building: _Building) -> Sequence:
        placed = {id(row.sequence) for row in building.rows}
        # Least urgent, then youngest: the oldest request always moves on, which is why every schedule ends.
        candidates = [sequence for sequence in self.running if id(sequence) not in placed]
        return max(candidates, key=lambda sequence: (sequence.priority, sequence.arrived_s))

    def _preempt(self, sequence: Sequence, building: _Building) -> None:
        """Back to waiting. Generated tokens stay in `tokens` and are computed again like a prompt, so none is lost or doubled."""
        self.running.remove(sequence)
        self.blocks.release(sequence)
        sequence.status = SequenceStatus.WAITING
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.append(sequence)
        building.preempted.append(sequence)

    def _admit(self, building: _Building, now: float) -> None:
        if not self.waiting or building.budget <= 0 or len(self.running) >= self.batch_cap:
            return
        for sequence in sorted(self.waiting, key=self._order(now)):
            if building.budget <= 0 or len(self.running) >= self.batch_cap:
                return
            if not self._start(sequence, building, now):
                return  # no overtaking: a long prompt at the head would starve behind short ones

    def _start(self, sequence: Sequence, building: _Building, now: float) -> bool:
        if self.settings.prefix_cache:
            cached = self.blocks.adopt_prefix(sequence, self.numerics)
        else:
            cached = 0
            self.blocks.start_uncached(sequence, self.numerics)
        # One block above the prompt, so that the first decode step does not preempt at once; none needed when alone.
        spare = self.blocks.block_size if self.running else 0
        whole = min(sequence.num_tokens + spare, self.blocks.num_blocks * self.blocks.block_size)
        if not self.blocks.can_grow(sequence, whole):
            self.blocks.release(sequence)
            return False
        if self.settings.prefix_cache:
            building.queries += sequence.num_tokens
            building.hits += cached
        if sequence.first_scheduled_s is None:
            sequence.first_scheduled_s, sequence.num_cached = now, min(cached, sequence.num_prompt_tokens)
        self.waiting.remove(sequence)
        self.running.append(sequence)
        sequence.status = SequenceStatus.RUNNING
        self._place(sequence, min(sequence.num_uncomputed, building.budget), building)
        return True

    def _place(self, sequence: Sequence, count: int, building: _Building) -> None:
        start = sequence.num_computed
        self.blocks.grow(sequence, start + count)
        samples = start + count == sequence.num_tokens
        building.rows.append(ScheduledRow(sequence, start, count, samples, is_decode=sequence.is_decoding))
        building.budget -= count
        sequence.last_scheduled_step = self._step

    def _order(self, now: float) -> Callable[[Sequence], tuple[float, ...]]:
        policy = self.settings.scheduling_policy
        hits: dict[int, int] = {}
        if policy is SchedulingPolicy.PREFIX and self.settings.prefix_cache:
            oldest = sorted(self.waiting, key=lambda sequence: sequence.arrived_s)[:_PREFIX_WINDOW]
            hits = {id(s): self.blocks.cached_prefix_tokens(s.tokens, self.numerics) for s in oldest}

        def key(sequence: Sequence) -> tuple[float, ...]:
            arrived = sequence.arrived_s
            if sequence.num_preemptions or now - arrived > AGING_BOUND_S:
                return (0.0, arrived)
            match policy:
                case SchedulingPolicy.FCFS:
                    wish = 0.0
                case SchedulingPolicy.DEADLINE:
                    wish = float("inf") if sequence.deadline_s is None else sequence.deadline_s
                case SchedulingPolicy.PREFIX:
                    wish = -float(hits.get(id(sequence), 0))
            return (1.0, float(sequence.priority), wish, arrived)

        return key


def _reflex_for(settings: EngineSettings, bounds: KnobBounds | None) -> LatencyReflex:
    size = settings.max_batch_size
    if settings.target_itl_ms <= 0:
        return LatencyReflex.of(target_itl_ms=0, start=size, low=size, high=size)
    low, high = (1, size) if bounds is None else (int(bounds.min), int(bounds.max))
    return LatencyReflex.of(target_itl_ms=settings.target_itl_ms, start=size, low=low, high=high)
