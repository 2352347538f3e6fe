"""Whatever comes in and whatever is turned: blocks are never lost or doubled, limits hold, and every request ends whole."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_node.contract.settings import KnobBounds
from inference_node.scheduling.batch import ScheduledBatch, ScheduledRow
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.order import STARVATION_BOUND_S
from inference_node.scheduling.predictor import StepPredictor
from inference_node.scheduling.reflex import LatencyReflex
from inference_node.scheduling.scheduler import Scheduler
from inference_node.scheduling.sequence import FinishReason, Sequence, SequenceStatus
from inference_node.scheduling.step_budget import LEAST_CHUNK
from tests.support.scheduling import NUMERICS, make_scheduler, make_sequence, run_step
from tests.support.step_clock import KnowsNothing, StepClock

POOL, SIZE = 12, 4
CLOCK = StepClock(fixed_s=0.010, row_s=0.001, prompt_token_s=0.0005)
# Few distinct tokens and prefixes, so that blocks are shared.
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)
KNOBS = st.fixed_dictionaries(
    {
        "max_batch_size": st.integers(1, 6),
        "max_batched_tokens": st.sampled_from([64, 65, 128]),
        "prefix_cache": st.booleans(),
        "scheduling_policy": st.sampled_from(["fcfs", "deadline", "prefix"]),
        "target_itl_ms": st.sampled_from([0.0, 5.0, 30.0]),
    }
)
WISH = st.tuples(st.integers(1, 20), st.integers(-2, 2), st.none() | st.floats(0.0, 5.0), st.sampled_from(["", "t"]))
EVENT = st.one_of(
    st.tuples(st.just("add"), PROMPTS, WISH),
    st.tuples(st.just("turn"), KNOBS, st.sampled_from([NUMERICS, "int8|model|0.0"])),
    st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 5), st.just(0)),
)


def check_blocks(scheduler: Scheduler, sequences: list[Sequence]) -> None:
    """used + cached + free = all, and each block is held exactly as often as tables name it."""
    blocks = scheduler.blocks
    held: dict[int, int] = {}
    for sequence in sequences:
        for block in sequence.block_table:
            held[block] = held.get(block, 0) + 1
    assert blocks.used_blocks() == sorted(held)
    assert all(blocks._refs[block] == count for block, count in held.items())
    free, cached = set(blocks._free), set(blocks._cached)
    assert len(free) == blocks.num_free and not free & cached and not (free | cached) & held.keys()
    assert len(free) + len(cached) + len(held) == blocks.num_blocks
    assert blocks.num_used + blocks.num_cached + blocks.num_free == blocks.num_blocks


class TestScheduler:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(EVENT, max_size=40), st.sampled_from([None, KnowsNothing(), CLOCK]))
    def test_any_history_keeps_blocks_and_limits_and_ends(
        self, events: list[tuple[object, ...]], predictor: StepPredictor | None
    ) -> None:
        """Whatever classes, deadlines and salts come, whichever knobs are turned, whoever leaves."""
        scheduler = make_scheduler(POOL, SIZE, predictor)
        sequences: list[Sequence] = []
        now = 0.0

        def step() -> int:
            running_before, waiting_before = scheduler.num_running, set(scheduler.waiting)
            batch = run_step(scheduler, now)
            cap = scheduler.batch_cap
            scheduler.observe(batch, CLOCK.of(batch))
            assert batch.num_tokens <= scheduler.settings.max_batched_tokens
            started = [row for row in batch.rows if row.sequence in waiting_before]
            # Above the cap (it was lowered) nobody new is let in.
            assert len({id(r.sequence) for r in batch.rows}) == len(batch.rows) <= max(running_before, cap)
            assert not (running_before > cap and started)
            check_blocks(scheduler, sequences)
            return len(batch.rows)

        for kind, what, more in events:
            now += 0.01
            if kind == "add":
                assert isinstance(what, list) and isinstance(more, tuple)
                answer, priority, patience_s, salt = more
                sequence = make_sequence(f"r{len(sequences)}", what, answer, now, priority)
                sequence.deadline_s = None if patience_s is None else now + patience_s
                sequence.cache_salt = salt
                sequences.append(sequence)
                scheduler.add(sequence)
            elif kind == "turn":
                assert isinstance(what, dict)
                scheduler.apply(scheduler.settings.replace(**what), str(more))
            elif kind == "cancel":
                assert isinstance(what, int)
                if sequences:
                    scheduler.finish(sequences[what % len(sequences)], FinishReason.CANCELLED)
            else:
                assert isinstance(what, int)
                for _ in range(what):
                    step()
        work = sum(s.sampling.max_tokens + s.num_tokens for s in sequences)
        for _ in range(20 * work + 10):
            now += 0.01
            if step() == 0:
                break
        for sequence in sequences:
            assert sequence.status is SequenceStatus.FINISHED
            if sequence.finish_reason is FinishReason.LENGTH:
                # No token lost or doubled, through preemption too: they number themselves.
                answer = sequence.tokens[sequence.num_prompt_tokens :]
                assert answer == list(range(sequence.sampling.max_tokens))
        assert scheduler.blocks.num_used == 0

    @settings(max_examples=50, deadline=None)
    @given(
        st.sampled_from(["fcfs", "deadline", "prefix"]),
        st.integers(1, 3),
        st.integers(-(2**31), 2**31),
        st.integers(-(2**31), 2**31),
    )
    def test_nobody_starves_under_a_stream_of_favourites(self, policy: str, cap: int, low: int, high: int) -> None:
        """A request that class and policy put last is still served once it is older than the bound."""
        scheduler = make_scheduler(POOL, SIZE, max_batch_size=cap, scheduling_policy=policy)
        last = make_sequence("last", [9] * 8, 1, arrived_s=0.0, priority=max(low, high))
        scheduler.add(last)
        now = 0.0
        for number in range(400):
            now += 0.1
            for twin in range(cap):
                favourite = make_sequence(f"f{number}.{twin}", [1] * 9, 1, now, min(low, high))
                favourite.deadline_s = now + 0.1
                scheduler.add(favourite)
            run_step(scheduler, now)
            if last.status is SequenceStatus.FINISHED:
                break
        assert last.first_scheduled_s is not None and last.first_scheduled_s <= STARVATION_BOUND_S

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(-3, 3), min_size=8, max_size=8))
    def test_nobody_is_preempted_for_ever(self, priorities: list[int]) -> None:
        """Memory for two only, and a stream of requests that are more urgent: the least urgent still comes to its end."""
        scheduler = make_scheduler(6, SIZE, max_batch_size=6, prefix_cache=False)
        last = make_sequence("last", 4, 16, arrived_s=0.0, priority=9)
        scheduler.add(last)
        now = 0.0
        for number in range(600):
            now += 0.1
            if number % 8 == 0:
                scheduler.add(make_sequence(f"r{number}", 4, 12, now, priorities[number // 8 % 8]))
            run_step(scheduler, now)
            if last.status is SequenceStatus.FINISHED:
                break
        assert last.status is SequenceStatus.FINISHED and now <= 2 * STARVATION_BOUND_S

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(2, 200), st.integers(1, 30)), min_size=1, max_size=12), st.integers(30, 80))
    def test_a_known_step_time_never_misses_its_target(self, requests: list[tuple[int, int]], target_ms: int) -> None:
        """With a step model that is right, no step that delays a decoding stream is longer than the target."""
        scheduler = make_scheduler(
            2000, SIZE, CLOCK, max_batched_tokens=512, max_batch_size=16, target_itl_ms=target_ms
        )
        for number, (prompt, answer) in enumerate(requests):
            scheduler.add(make_sequence(f"r{number}", prompt, answer, arrived_s=0.01 * number))
        while (batch := run_step(scheduler, now=1.0)).rows:
            if batch.num_decode_rows and batch.num_prefill_tokens > LEAST_CHUNK * len(batch.rows):
                assert CLOCK.of(batch) <= target_ms / 1e3 + 1e-9
            assert batch.num_prefill_tokens <= 512

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.6, 1.8), st.integers(1, 48), st.integers(0, 2**32))
    def test_a_step_model_that_is_off_is_corrected(self, factor: float, start: int, seed: int) -> None:
        """Steps take `factor` times what is foreseen, and some noise: the batch still ends close to the best that is in time."""
        scheduler = make_scheduler(20_000, SIZE, CLOCK, max_batch_size=start, target_itl_ms=40, prefix_cache=False)
        source = random.Random(seed)
        scheduler.apply(scheduler.settings, NUMERICS, KnobBounds(min=1, max=48))
        for number in range(60):
            scheduler.add(make_sequence(f"r{number}", 2, 10**6))
        slow, caps = 0, []
        for step in range(3000):
            batch = run_step(scheduler, now=step * 0.03)
            took_s = factor * CLOCK.of(batch) * source.uniform(0.97, 1.03)
            scheduler.observe(batch, took_s)
            if step >= 1000:
                slow += took_s > 1.05 * 0.040
                caps.append(scheduler.batch_cap)
            if scheduler.batch_cap < scheduler.num_running:  # somebody leaves, so that a lowered cap takes effect
                scheduler.finish(scheduler.running[0], FinishReason.CANCELLED)
                scheduler.add(make_sequence(f"n{step}", 2, 10**6, arrived_s=step * 0.03))
        best = max(1.0, min(48.0, (0.040 / factor - 0.010) / 0.001))
        assert slow <= 0.1 * 2000
        assert sum(caps) / len(caps) >= 0.8 * best - 1


class TestPrefixReuse:
    @settings(max_examples=100, deadline=None)
    @given(PROMPTS, PROMPTS, st.booleans())
    def test_reuses_just_the_common_full_blocks_under_equal_numerics(
        self, first: list[int], second: list[int], same: bool
    ) -> None:
        blocks = BlockManager(64, SIZE)
        one = make_sequence("one", first)
        blocks.start_uncached(one, "x")
        blocks.grow(one, one.num_tokens)
        one.num_computed = one.num_tokens
        blocks.record_computed(one, "x")
        two = make_sequence("two", second)
        found = blocks.adopt_prefix(two, "x" if same else "y")
        common = next(
            (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
        )
        # The last token of the second is never served from the cache: its logits are needed.
        expected = min(common, len(second) - 1) // SIZE * SIZE if same else 0
        assert found == expected
        assert two.block_table == one.block_table[: expected // SIZE]


class TestReflex:
    @given(
        st.lists(st.tuples(st.floats(1e-4, 2.0), st.integers(0, 64), st.integers(0, 100)), max_size=200),
        st.integers(1, 64),
        st.integers(1, 64),
        st.integers(1, 64),
    )
    def test_stays_in_its_bounds(self, steps: list[tuple[float, int, int]], start: int, low: int, high: int) -> None:
        reflex = LatencyReflex.of(target_itl_ms=50, start=start, low=min(low, high), high=max(low, high))
        for step_s, rows, wanted in steps:
            before = reflex.cap
            after = reflex.observe(step_s, rows, wanted)
            assert min(low, high) <= after <= max(low, high)
            assert after <= before + max(1, before // 16)

    @given(st.floats(0.002, 0.02), st.integers(1, 64))
    def test_settles_at_a_cap_that_meets_the_target(self, per_row_s: float, start: int) -> None:
        """Latency that grows with the batch: the cap ends where it holds, or at the floor when nothing does."""
        reflex = LatencyReflex.of(target_itl_ms=60, start=start, low=1, high=64)
        slow = 0
        for _ in range(4000):
            rows = reflex.cap
            latency = 0.010 + per_row_s * rows
            slow += latency > 0.060 * 1.05
            reflex.observe(latency, rows, wanted=100)
        # It looks again at a batch that was too slow, ever more rarely; the rest of the time the target holds.
        assert slow <= 0.1 * 4000
        # And it is not needlessly low: the next larger batch would leave the band that it grows in.
        beyond = 0.010 + per_row_s * (reflex.cap + max(1, reflex.cap // 16))
        assert reflex.cap == 64 or beyond > 0.060 * 0.85

    def test_an_envelope_moves_the_cap_within_its_bounds(self) -> None:
        scheduler = make_scheduler(max_batch_size=8, target_itl_ms=10)
        scheduler.apply(scheduler.settings, NUMERICS, KnobBounds(min=6, max=12))
        for _ in range(100):
            rows = tuple(ScheduledRow(make_sequence(), 4, 1, True, True) for _ in range(min(8, scheduler.batch_cap)))
            scheduler.observe(ScheduledBatch(rows), 0.1)
        assert scheduler.batch_cap == 6
