"""Replicas that take work over from one another: whatever comes when, no request is lost, doubled or kept waiting for ever."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.scheduler import Scheduler
from inference_node.scheduling.sequence import FinishReason, Sequence, SequenceStatus
from tests.property.test_scheduler_properties import check_blocks
from tests.support.scheduling import make_scheduler, make_sequence

POOL, SIZE = 12, 4
PLACE = st.integers(0, 2)
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)
NOTHING: st.SearchStrategy[list[int]] = st.just([])
EVENT: st.SearchStrategy[tuple[str, int, list[int], int]] = st.one_of(
    st.tuples(st.just("add"), PLACE, PROMPTS, st.integers(1, 12)),
    st.tuples(st.just("begin"), PLACE, NOTHING, st.just(0)),
    st.tuples(st.just("end"), PLACE, NOTHING, st.just(0)),
    st.tuples(st.just("steal"), PLACE, NOTHING, st.integers(1, 5)),
    st.tuples(st.just("cancel"), PLACE, NOTHING, st.integers(0, 30)),
)


@dataclass
class Lane:
    """One replica's scheduler, and its step while one runs."""

    scheduler: Scheduler
    step: ScheduledBatch | None = None
    here: list[Sequence] = field(default_factory=list)

    def begin(self, now: float) -> None:
        if self.step is None:
            self.step = self.scheduler.schedule(now)

    def end(self) -> None:
        if (batch := self.step) is None:
            return
        self.step = None
        self.scheduler.complete(batch)
        for row in batch.rows:
            if row.samples and row.sequence.status is SequenceStatus.RUNNING:
                row.sequence.tokens.append(row.sequence.num_generated)
                if row.sequence.num_generated >= row.sequence.sampling.max_tokens:
                    self.scheduler.finish(row.sequence, FinishReason.LENGTH)

    def steal(self, victim: "Lane", count: int, now: float, gone: set[str]) -> list[Sequence]:
        """As a replica does between two of its steps."""
        room = self.scheduler.batch_cap - self.scheduler.num_running
        if self.step is not None or self.scheduler.num_waiting or room <= 0 or victim.step is None:
            return []
        before = victim.scheduler.blocks.used_blocks()
        waited = list(victim.scheduler.waiting)
        free = self.scheduler.blocks.num_available * SIZE
        taken = victim.scheduler.give(min(count, room), free, now, lambda s: s.request_id not in gone)
        assert victim.scheduler.blocks.used_blocks() == before
        assert len(taken) <= min(count, room) and sum(s.num_tokens for s in taken) <= free
        for sequence in taken:
            assert sequence in waited and not sequence.block_table and sequence.num_computed == 0
            assert sequence.num_preemptions == 0 and sequence.request_id not in gone
            self.scheduler.adopt(sequence)
            victim.here.remove(sequence)
            self.here.append(sequence)
        return taken


class TestReplicas:
    @settings(max_examples=200, deadline=None)
    @given(st.lists(EVENT, max_size=60), st.integers(1, 4), st.sampled_from(["fcfs", "deadline", "prefix"]))
    def test_any_history_ends_with_every_request_served_once(
        self, events: list[tuple[str, int, list[int], int]], cap: int, policy: str
    ) -> None:
        """Steps begin and end in any order on three replicas, which take over whenever they may; some requests are cancelled."""
        lanes = [Lane(make_scheduler(POOL, SIZE, max_batch_size=cap, scheduling_policy=policy)) for _ in range(3)]
        sequences: list[Sequence] = []
        gone: set[str] = set()
        now = 0.0

        def check() -> None:
            placed = [id(s) for lane in lanes for s in (*lane.scheduler.waiting, *lane.scheduler.running)]
            assert len(placed) == len(set(placed))
            assert set(placed) == {id(s) for s in sequences if s.status is not SequenceStatus.FINISHED}
            for lane in lanes:
                check_blocks(lane.scheduler, lane.here)

        def do(kind: str, place: int, prompt: list[int], number: int) -> None:
            lane = lanes[place]
            match kind:
                case "add":
                    sequence = make_sequence(f"r{len(sequences)}", prompt, number, now)
                    sequences.append(sequence)
                    lane.here.append(sequence)
                    lane.scheduler.add(sequence)
                case "begin":
                    lane.begin(now)
                case "end":
                    lane.end()
                case "steal":
                    victim = max((v for v in lanes if v is not lane), key=lambda v: v.scheduler.num_waiting)
                    lane.steal(victim, number, now, gone)
                case "cancel" if sequences:
                    # First it is marked, then each replica ends it between two steps, if it has it.
                    wanted = sequences[number % len(sequences)]
                    gone.add(wanted.request_id)
                    for owner in lanes:
                        if wanted in owner.here:
                            owner.end()
                            owner.scheduler.finish(wanted, FinishReason.CANCELLED)

        for event in events:
            now += 0.01
            do(*event)
            check()
        for turn in range(10_000):
            now += 0.01
            if all(s.status is SequenceStatus.FINISHED for s in sequences):
                break
            place = turn % 3
            # One steps while the next, before its own step, takes over what that leaves.
            do("begin", place, [], 0)
            do("steal", (place + 1) % 3, [], 1 + turn % 3)
            do("end", place, [], 0)
            check()
        for sequence in sequences:
            assert sequence.status is SequenceStatus.FINISHED
            if sequence.finish_reason is FinishReason.LENGTH:
                answer = sequence.tokens[sequence.num_prompt_tokens :]
                assert answer == list(range(sequence.sampling.max_tokens))
        assert all(lane.scheduler.blocks.num_used == 0 for lane in lanes)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(PROMPTS, min_size=1, max_size=12), st.integers(1, 8))
    def test_whose_turn_is_next_goes_first(self, prompts: list[list[int]], count: int) -> None:
        """Nobody that a thief passes over had a turn before one that it takes, but for what it has no memory for."""
        lane = Lane(make_scheduler(POOL, SIZE, max_batch_size=1, prefix_cache=False))
        for number, prompt in enumerate(prompts):
            lane.scheduler.add(make_sequence(f"r{number}", prompt, 4, arrived_s=0.1 * number))
        lane.begin(now=10.0)
        waiting = [s.request_id for s in sorted(lane.scheduler.waiting, key=lambda s: s.arrived_s)]
        taken = lane.scheduler.give(count, 10_000, 10.0, lambda s: True)
        assert [s.request_id for s in taken] == waiting[:count]
