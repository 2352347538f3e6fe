"""Whatever comes in and whatever is turned: blocks are never lost or doubled, limits hold, and every request ends whole."""

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_node.contract.settings import KnobBounds
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.reflex import LatencyReflex
from inference_node.scheduling.scheduler import AGING_BOUND_S, Scheduler
from inference_node.scheduling.sequence import FinishReason, Sequence, SequenceStatus
from tests.support.scheduling import NUMERICS, make_scheduler, make_sequence, run_step

POOL, SIZE = 12, 4
# Few distinct tokens and prefixes, so that blocks are shared.
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)
KNOBS = st.fixed_dictionaries(
    {
        "max_batch_size": st.integers(1, 6),
        "max_batched_tokens": st.sampled_from([64, 65, 128]),
        "prefix_cache": st.booleans(),
        "scheduling_policy": st.sampled_from(["fcfs", "deadline", "prefix"]),
    }
)
EVENT = st.one_of(
    st.tuples(st.just("add"), PROMPTS, st.integers(1, 20), st.integers(-1, 1)),
    st.tuples(st.just("turn"), KNOBS, st.sampled_from([NUMERICS, "int8|model|0.0"]), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 5), st.just(0), st.just(0)),
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
    @given(st.lists(EVENT, max_size=40))
    def test_any_history_keeps_blocks_and_limits_and_ends(self, events: list[tuple[object, ...]]) -> None:
        scheduler = make_scheduler(POOL, SIZE)
        sequences: list[Sequence] = []
        now = 0.0

        def step() -> int:
            running_before = scheduler.num_running
            batch = run_step(scheduler, now)
            assert batch.num_tokens <= scheduler.settings.max_batched_tokens
            started = [row for row in batch.rows if row.sequence.first_scheduled_s == now]
            # Above the cap (it was lowered) nobody new is let in.
            assert (
                len({id(r.sequence) for r in batch.rows}) == len(batch.rows) <= max(running_before, scheduler.batch_cap)
            )
            assert not (running_before > scheduler.batch_cap and started)
            check_blocks(scheduler, sequences)
            return len(batch.rows)

        for kind, what, more, priority in events:
            now += 0.01
            if kind == "add":
                assert isinstance(what, list) and isinstance(more, int) and isinstance(priority, int)
                sequence = make_sequence(f"r{len(sequences)}", what, more, now, priority)
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
    @given(st.sampled_from(["fcfs", "deadline", "prefix"]), st.integers(1, 3))
    def test_nobody_starves_under_a_stream_of_favourites(self, policy: str, cap: int) -> None:
        """A request that every policy puts last is still served once it is older than the aging bound."""
        scheduler = make_scheduler(POOL, SIZE, max_batch_size=cap, scheduling_policy=policy)
        last = make_sequence("last", [9] * 8, 1, arrived_s=0.0, priority=5)
        scheduler.add(last)
        now = 0.0
        for number in range(400):
            now += 0.1
            for twin in range(cap):
                favourite = make_sequence(f"f{number}.{twin}", [1] * 9, 1, arrived_s=now)
                favourite.deadline_s = now + 0.1
                scheduler.add(favourite)
            run_step(scheduler, now)
            if last.status is SequenceStatus.FINISHED:
                break
        assert last.first_scheduled_s is not None and last.first_scheduled_s <= 2 * AGING_BOUND_S


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
            scheduler.observe(0.1, min(8, scheduler.batch_cap))
        assert scheduler.batch_cap == 6
