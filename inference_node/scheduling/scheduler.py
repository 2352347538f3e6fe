"""Who runs in the next step: decode first, prefill chunks into what is left of the budget in tokens and time, preempt last."""

from collections.abc import Callable
from heapq import nsmallest
from itertools import takewhile

from inference_node.contract.settings import EngineSettings, KnobBounds, SchedulingPolicy
from inference_node.scheduling.batch import ScheduledBatch, ScheduledRow
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.gather import Gatherer
from inference_node.scheduling.order import due_s, turn_s
from inference_node.scheduling.predictor import StepPredictor
from inference_node.scheduling.reflex import LatencyReflex
from inference_node.scheduling.sequence import FinishReason, Sequence, SequenceStatus
from inference_node.scheduling.step_budget import LEAST_CHUNK, StepBudget

# Of a long queue, the policy `prefix` looks up only the oldest: a look-up hashes the whole prompt.
_PREFIX_WINDOW = 64
# When decode rows alone would fill the budget, this part of it is kept for prompts.
_PREFILL_SHARE = 8
# The batch grows by itself only while so much of the KV memory is to be had, and so many steps after the last preemption.
_MEMORY_ROOM, _CALM_STEPS = 0.1, 64


class _Building:
    """A step in the making: `budget` is what is left of it, in tokens."""

    def __init__(self, budget: int) -> None:
        self.rows: list[ScheduledRow] = []
        self.preempted: list[Sequence] = []
        self.budget = budget
        self.context = 0
        self.computing: set[bytes] = set()  # hashes of the full blocks that its prompts' rows will fill
        self.queries = 0
        self.hits = 0


class Scheduler:
    """Owns the waiting and running sequences. Single-threaded; `num_waiting` and `num_running` may be read from anywhere.

    `numerics` names the arithmetic in force and seeds prefix hashes. `predictor` foresees step times; without one the latency
    target is steered by measured latencies alone. No call raises for lack of blocks, but a sequence that could never fit must
    not be added: the pool has to hold the longest allowed sequence.
    """

    def __init__(
        self, blocks: BlockManager, settings: EngineSettings, numerics: str, predictor: StepPredictor | None = None
    ) -> None:
        self.blocks = blocks
        self.numerics = numerics
        self.settings = settings
        # Places that a runner which computes ahead of what was asked writes to, behind a sequence's end.
        self.tokens_ahead = 0
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self._step = 0
        self._preempted_at = -_CALM_STEPS
        self._predictor = predictor
        self._gatherer = Gatherer()
        self._reflex = _reflex_for(settings, None)
        self._budget = StepBudget(settings.target_itl_ms / 1e3, predictor)
        self._foreseen: int | None = None
        self._computing: frozenset[bytes] = frozenset()  # hashes of the blocks that the last step's prompts fill

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def batch_cap(self) -> int:
        """Sequences that may run now: the knob, moved by the reflex if it has a target."""
        cap = self._reflex.cap
        return cap if self._foreseen is None else max(self._reflex.low, min(cap, self._foreseen))

    def apply(self, settings: EngineSettings, numerics: str, bounds: KnobBounds | None = None) -> None:
        """New settings from the next step on. Lowering the cap drains; nothing is aborted."""
        old, self.settings = self.settings, settings
        fresh = _reflex_for(settings, bounds)
        kept = (old.max_batch_size, old.target_itl_ms) == (settings.max_batch_size, settings.target_itl_ms)
        if not (kept and (fresh.low, fresh.high) == (self._reflex.low, self._reflex.high)):
            self._reflex = fresh
        if numerics != self.numerics:
            for sequence in self.running:  # what they have computed so far was other arithmetic
                sequence.cache_seed = None
        if numerics != self.numerics or old.target_itl_ms != settings.target_itl_ms:
            self.numerics = numerics
            self._budget = StepBudget(settings.target_itl_ms / 1e3, self._predictor)
            self._foreseen = None

    def add(self, sequence: Sequence) -> None:
        assert self.blocks.blocks_for(sequence.num_tokens) <= self.blocks.num_blocks
        self._gatherer.arrived(sequence.arrived_s)
        self.waiting.append(sequence)

    def adopt(self, sequence: Sequence) -> None:
        """As add, for one that another scheduler gave away: it says nothing of the traffic that comes here."""
        assert self.blocks.blocks_for(sequence.num_tokens) <= self.blocks.num_blocks
        self.waiting.append(sequence)

    def give(self, count: int, most_tokens: int, now: float, may_go: Callable[[Sequence], bool]) -> list[Sequence]:
        """Takes up to `count` sequences, of `most_tokens` together, out of the queue, for another scheduler to run.

        Only those that have not begun, in the order of their turns: who waits longest gains most. While the batch has room, one
        whose prompt is cached here by half or more stays: the next step has it for less than another engine could.
        """
        given: list[Sequence] = []
        has_room = len(self.running) < self.batch_cap
        for sequence in self._next(4 * count + _PREFIX_WINDOW, now):
            if len(given) == count:
                break
            if sequence.num_preemptions or sequence.num_tokens > most_tokens or not may_go(sequence):
                continue
            if has_room and self.settings.prefix_cache and 2 * self._known_tokens(sequence) >= sequence.num_tokens:
                continue
            most_tokens -= sequence.num_tokens
            self.waiting.remove(sequence)
            given.append(sequence)
        return given

    def _known_tokens(self, sequence: Sequence) -> int:
        """Leading tokens that are cached, or computed by the step that runs."""
        chain = self.blocks.chain(sequence, self.seed_of(sequence))
        known = takewhile(lambda digest: self.blocks.is_cached(digest) or digest in self._computing, chain)
        return self.blocks.block_size * sum(1 for _ in known)

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """Takes a sequence out, wherever it is, and gives its blocks back."""
        if sequence.status is SequenceStatus.FINISHED:
            return
        (self.running if sequence.status is SequenceStatus.RUNNING else self.waiting).remove(sequence)
        self.blocks.release(sequence)
        sequence.status = SequenceStatus.FINISHED
        sequence.finish_reason = reason

    def seed_of(self, sequence: Sequence) -> str:
        """What the hashes of its blocks begin with, under the arithmetic in force."""
        # The salt is the client's: nothing in it can pass for a numerics key, which holds no NUL.
        return f"{self.numerics}\0{sequence.cache_salt}" if sequence.cache_salt else self.numerics

    def gather_delay_s(self, now: float) -> float:
        """How long an idle engine should still gather requests before its next step; 0 to go at once."""
        settings = self.settings
        if settings.batch_wait_ms <= 0 or self.running or not self.waiting or len(self.waiting) >= self.batch_cap:
            return 0.0
        if sum(sequence.num_tokens for sequence in self.waiting) >= settings.max_batched_tokens:
            return 0.0
        return self._gatherer.delay_s(self.waiting, settings.batch_wait_ms / 1e3, now, self._budget)

    def schedule(self, now: float) -> ScheduledBatch:
        """The next step's rows, with blocks in place for each. Empty when nothing waits or runs."""
        self._step += 1
        building = _Building(self.settings.max_batched_tokens)
        decoding: list[Sequence] = []
        prefilling: list[Sequence] = []
        for sequence in self.running:
            (decoding if len(sequence.tokens) - sequence.num_computed == 1 else prefilling).append(sequence)
        room = building.budget
        if self._budget.is_on and self.waiting:
            self._foresee()
        has_starters = bool(prefilling) or (bool(self.waiting) and len(self.running) < self.batch_cap)
        if has_starters and len(decoding) >= room:
            room -= max(1, room // _PREFILL_SHARE)
        if len(decoding) > room:  # the ones left out last time go first
            decoding = sorted(decoding, key=lambda sequence: sequence.last_scheduled_step)[:room]
        self._decode(decoding, building)
        if has_starters:
            building.budget = self._budget.chunk(len(building.rows), building.context, building.budget)
            # One prompt after the other: shared out, a chunk would bring all of them to their first token last.
            for sequence in sorted(prefilling, key=due_s):
                self._continue(sequence, building)
            if not building.preempted:
                self._admit(building, now)
        self._computing = frozenset(building.computing)
        return ScheduledBatch(
            tuple(building.rows), tuple(building.preempted), building.queries, building.hits, building.context
        )

    def complete(self, batch: ScheduledBatch) -> None:
        """The batch was computed: its tokens have their KV, and full blocks can be found. Call before appending new tokens."""
        records, size = self.settings.prefix_cache, self.blocks.block_size
        for row in batch.rows:
            sequence = row.sequence
            if sequence.status is not SequenceStatus.RUNNING:
                continue
            end = sequence.num_computed = row.start + row.count
            if records and end // size > len(sequence.block_hashes) and sequence.cache_seed is not None:
                self.blocks.record_computed(sequence, self.seed_of(sequence))

    def observe(self, batch: ScheduledBatch, step_s: float, itl_s: float | None = None) -> None:
        """Tells the reflex how long a step took, and how long its decode rows had waited for their token (by default as long)."""
        if self._reflex.target_s <= 0:
            return
        decode_rows, prefill = batch.num_decode_rows, batch.num_prefill_tokens
        self._budget.learn(decode_rows, prefill, batch.context_tokens, step_s)
        if decode_rows == 0:
            return
        # A step that took a chunk along was as long as the budget let it be: its length is the chunk's doing, not the batch's.
        if self._foreseen is not None and prefill > LEAST_CHUNK:
            return
        self._reflex.observe(
            step_s if itl_s is None else itl_s,
            decode_rows,
            len(self.running) + len(self.waiting),
            foreseen=self._foreseen,
            may_grow=self._has_memory(),
        )

    def _foresee(self) -> None:
        """How many rows of the length of those at hand the step model expects to be in time."""
        some = self.running or self.waiting[:_PREFIX_WINDOW]
        per_row = sum(len(sequence.tokens) for sequence in some) / len(some)
        self._foreseen = self._budget.rows(self._reflex.low, self._reflex.high, per_row)

    def _has_memory(self) -> bool:
        room = self.blocks.num_available >= _MEMORY_ROOM * self.blocks.num_blocks
        return room and self._step - self._preempted_at >= _CALM_STEPS

    def _decode(self, sequences: list[Sequence], building: _Building) -> None:
        """One token each. The body is `_continue` for the usual case, a block with room: this loop runs for every token."""
        size, step, rows = self.blocks.block_size, self._step, building.rows
        for sequence in sequences:
            computed = sequence.num_computed
            if computed + self.tokens_ahead < len(sequence.block_table) * size:
                rows.append(ScheduledRow(sequence, computed, 1, samples=True, is_decode=True))
                building.budget -= 1
                building.context += computed
                sequence.last_scheduled_step = step
            else:
                self._continue(sequence, building)

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
        # Lowest class, latest deadline, youngest, in one moment that never changes: whoever is due first always moves on, and in
        # time everybody is, which is why every schedule ends.
        candidates = [sequence for sequence in self.running if id(sequence) not in placed]
        return max(candidates, key=lambda sequence: (due_s(sequence), sequence.arrived_s))

    def _preempt(self, sequence: Sequence, building: _Building) -> None:
        """Back to waiting. Generated tokens stay in `tokens` and are computed again like a prompt, so none is lost or doubled."""
        self.running.remove(sequence)
        self.blocks.release(sequence)
        sequence.status = SequenceStatus.WAITING
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        self._preempted_at = self._step
        self.waiting.append(sequence)
        building.preempted.append(sequence)

    def _admit(self, building: _Building, now: float) -> None:
        room = self.batch_cap - len(self.running)
        if not self.waiting or building.budget <= 0 or room <= 0:
            return
        for sequence in self._next(room, now):
            if building.budget <= 0:
                return
            if self.settings.prefix_cache and self._can_share(sequence, building):
                continue
            if not self._start(sequence, building, now):
                return  # no overtaking: a long prompt at the head would starve behind short ones

    def _next(self, count: int, now: float) -> list[Sequence]:
        """The waiting whose turn it is. Preempted ones first: they hold answers that somebody is reading."""
        policy, hits = self.settings.scheduling_policy, dict[int, float]()
        if policy is SchedulingPolicy.PREFIX and self.settings.prefix_cache:
            for sequence in nsmallest(_PREFIX_WINDOW, self.waiting, key=lambda sequence: sequence.arrived_s):
                cached = self.blocks.cached_prefix_tokens(sequence, self.seed_of(sequence))
                hits[id(sequence)] = cached / len(sequence.tokens)

        def turn(sequence: Sequence) -> tuple[bool, float, float]:
            moment = turn_s(
                sequence,
                policy,
                is_lost=policy is SchedulingPolicy.DEADLINE and self._is_lost(sequence, now),
                cached_share=hits.get(id(sequence), 0.0),
            )
            return (sequence.num_preemptions == 0, moment, sequence.arrived_s)

        return nsmallest(count, self.waiting, key=turn)

    def _is_lost(self, sequence: Sequence, now: float) -> bool:
        if sequence.deadline_s is None:
            return False
        prefill_s = self._budget.predict_s(0, sequence.num_uncomputed, 0) or 0.0
        return now + prefill_s > sequence.deadline_s

    def _start(self, sequence: Sequence, building: _Building, now: float) -> bool:
        seed = self.seed_of(sequence)
        if self.settings.prefix_cache:
            cached = self.blocks.adopt_prefix(sequence, seed)
        else:
            cached = 0
            self.blocks.start_uncached(sequence, seed)
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

    def _can_share(self, sequence: Sequence, building: _Building) -> bool:
        """Whether this very step computes the next block that it needs: a step later it is had for nothing."""
        missing = self.blocks.next_missing(sequence, self.seed_of(sequence)) if building.computing else None
        return missing is not None and missing in building.computing

    def _place(self, sequence: Sequence, count: int, building: _Building) -> None:
        start = sequence.num_computed
        self.blocks.grow(sequence, start + count)
        if self.tokens_ahead and self.blocks.can_grow(sequence, start + count + self.tokens_ahead):
            self.blocks.grow(sequence, start + count + self.tokens_ahead)
        samples = start + count == sequence.num_tokens
        building.rows.append(ScheduledRow(sequence, start, count, samples, is_decode=sequence.is_decoding))
        building.budget -= count
        building.context += start
        sequence.last_scheduled_step = self._step
        if count > 1 and self.settings.prefix_cache and sequence.cache_seed is not None:
            building.computing.update(self.blocks.hashes(sequence, sequence.cache_seed, start, start + count))


def _reflex_for(settings: EngineSettings, bounds: KnobBounds | None) -> LatencyReflex:
    size = settings.max_batch_size
    if settings.target_itl_ms <= 0:
        return LatencyReflex.of(target_itl_ms=0, start=size, low=size, high=size)
    low, high = (1, size) if bounds is None else (int(bounds.min), int(bounds.max))
    return LatencyReflex.of(target_itl_ms=settings.target_itl_ms, start=size, low=low, high=high)
