"""Who runs in a step, and who does not."""

from dataclasses import replace

import pytest

from inference_node.contract.settings import KnobBounds
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.order import STARVATION_BOUND_S
from inference_node.scheduling.sequence import FinishReason, SequenceStatus
from tests.support.scheduling import NUMERICS, make_scheduler, make_sequence, run_step
from tests.support.step_clock import StepClock


def names(batch: object) -> list[str]:
    return [row.sequence.request_id for row in batch.rows]  # type: ignore[attr-defined]  # a ScheduledBatch


class TestSchedule:
    def test_decodes_first_and_fills_the_budget_with_a_chunk_of_the_prompt(self) -> None:
        scheduler = make_scheduler(max_batched_tokens=64)
        scheduler.add(make_sequence("old", prompt=4, answer=9))
        run_step(scheduler)
        scheduler.add(make_sequence("long", prompt=100))
        batch = run_step(scheduler)
        assert [(row.sequence.request_id, row.count, row.samples) for row in batch.rows] == [
            ("old", 1, True),
            ("long", 63, False),
        ]
        assert batch.num_decode_rows == 1 and batch.num_prefill_tokens == 63

    def test_the_step_that_ends_a_prompt_samples_its_first_token(self) -> None:
        scheduler = make_scheduler(max_batched_tokens=64)
        sequence = make_sequence(prompt=100)
        scheduler.add(sequence)
        assert not run_step(scheduler).rows[0].samples
        assert run_step(scheduler).rows[0].samples
        assert sequence.num_generated == 1

    def test_lowering_the_cap_drains_and_aborts_nobody(self) -> None:
        scheduler = make_scheduler(max_batch_size=3)
        for name in "abcd":
            scheduler.add(make_sequence(name, answer=3))
        run_step(scheduler)
        scheduler.apply(scheduler.settings.replace(max_batch_size=1), NUMERICS)
        assert names(run_step(scheduler)) == ["a", "b", "c"]
        run_step(scheduler)  # these three end here, after three tokens each
        assert names(run_step(scheduler)) == ["d"]

    def test_preempts_the_youngest_and_keeps_its_tokens(self) -> None:
        scheduler = make_scheduler(num_blocks=4, block_size=4, prefix_cache=False)
        old, young = (make_sequence(n, prompt=4, answer=12, arrived_s=at) for n, at in (("old", 0.0), ("young", 1.0)))
        scheduler.add(old)
        run_step(scheduler)
        scheduler.add(young)
        preempted: list[str] = []
        while old.status is not SequenceStatus.FINISHED:
            preempted += [sequence.request_id for sequence in run_step(scheduler).preempted]
        assert preempted and set(preempted) == {"young"}
        while young.status is not SequenceStatus.FINISHED:
            run_step(scheduler)
        assert young.tokens[4:] == list(range(12)) and old.num_preemptions == 0

    def test_decode_rows_beyond_the_budget_take_turns_and_leave_room_for_a_prompt(self) -> None:
        scheduler = make_scheduler(num_blocks=500, max_batch_size=100, max_batched_tokens=64)
        for number in range(80):
            scheduler.add(make_sequence(f"r{number}", prompt=1, answer=50))
        for _ in range(5):
            run_step(scheduler)
        scheduler.add(make_sequence("prompt", prompt=40, answer=1))
        seen: set[str] = set()
        for _ in range(3):
            seen.update(names(run_step(scheduler)))
        assert len(seen) == 81
        while scheduler.num_waiting + scheduler.num_running:
            assert run_step(scheduler).num_tokens <= 64

    def test_preempts_the_lowest_class_then_the_latest_deadline(self) -> None:
        scheduler = make_scheduler(num_blocks=12, block_size=4, prefix_cache=False)
        low, late, soon = (make_sequence(name, prompt=8, answer=30, arrived_s=0.0) for name in ("low", "late", "soon"))
        low.priority, late.deadline_s, soon.deadline_s = 3, 9.0, 2.0
        for sequence in (low, late, soon):
            scheduler.add(sequence)
        order: list[str] = []
        while len(order) < 2:
            order += [sequence.request_id for sequence in run_step(scheduler, now=0.5).preempted]
        assert order == ["low", "late"]

    def test_a_long_prompt_at_the_head_is_not_overtaken(self) -> None:
        scheduler = make_scheduler(num_blocks=8, block_size=4)
        scheduler.add(make_sequence("running", prompt=16, answer=8))
        run_step(scheduler)
        scheduler.add(make_sequence("long", prompt=24, arrived_s=1.0))
        scheduler.add(make_sequence("short", prompt=2, arrived_s=2.0))
        assert names(run_step(scheduler, now=3.0)) == ["running"]

    def test_one_prompt_after_the_other_not_all_at_once(self) -> None:
        scheduler = make_scheduler(num_blocks=200, max_batched_tokens=64)
        for name, at in (("first", 0.0), ("second", 0.1)):
            scheduler.add(make_sequence(name, prompt=120, answer=1, arrived_s=at))
        assert [names(run_step(scheduler, now=1.0)) for _ in range(4)] == [
            ["first"],
            ["first", "second"],
            ["second"],
            ["second"],
        ]

    def test_a_chunk_beside_decoding_streams_is_as_long_as_the_target_allows(self) -> None:
        clock = StepClock(fixed_s=0.010, row_s=0.001, prompt_token_s=0.001)
        scheduler = make_scheduler(num_blocks=200, predictor=clock, max_batched_tokens=512, target_itl_ms=60)
        scheduler.add(make_sequence("long", prompt=300, answer=9))
        assert run_step(scheduler).num_prefill_tokens == 300  # alone it delays nobody
        scheduler.add(make_sequence("next", prompt=300, answer=9))
        batch = run_step(scheduler)
        assert (batch.num_decode_rows, batch.num_prefill_tokens) == (1, 48)
        assert clock.of(batch) <= 0.060

    def test_no_more_start_than_the_target_is_foreseen_to_hold(self) -> None:
        clock = StepClock(fixed_s=0.010, row_s=0.0095, prompt_token_s=0.0)
        scheduler = make_scheduler(num_blocks=500, predictor=clock, max_batch_size=32, target_itl_ms=60)
        for number in range(32):
            scheduler.add(make_sequence(f"r{number}", prompt=2, answer=50))
        for _ in range(100):
            batch = run_step(scheduler)
            scheduler.observe(batch, clock.of(batch))
            assert len(batch.rows) == 5

    @pytest.mark.parametrize(("num_blocks", "cap"), [(100, 9), (17, 8)])
    def test_the_batch_grows_by_itself_only_while_memory_has_room(self, num_blocks: int, cap: int) -> None:
        scheduler = make_scheduler(num_blocks, 4, max_batch_size=8, target_itl_ms=50, prefix_cache=False)
        scheduler.apply(scheduler.settings, NUMERICS, KnobBounds(min=1, max=16))
        for number in range(9):
            scheduler.add(make_sequence(f"r{number}", prompt=7, arrived_s=float(number)))
        started = scheduler.schedule(0.0)
        assert len(started.rows) == 8
        decoding = ScheduledBatch(tuple(replace(row, is_decode=True) for row in started.rows))
        for _ in range(100):  # it judges itself calm only some steps after the last preemption, and was none
            scheduler.observe(decoding, 0.001)
        assert scheduler.batch_cap == cap


class TestSharing:
    def test_waits_a_step_for_a_prefix_that_is_being_computed(self) -> None:
        scheduler = make_scheduler(num_blocks=200, max_batched_tokens=512)
        for name in ("leader", "follower", "stranger"):
            prompt = [3] * 40 if name == "stranger" else [7] * 40 + [len(name)]
            scheduler.add(make_sequence(name, prompt=prompt, answer=3))
        first = run_step(scheduler)
        assert names(first) == ["leader", "stranger"]
        second = run_step(scheduler)
        assert names(second) == ["leader", "stranger", "follower"] and second.prefix_hits == 40

    def test_tenants_of_another_salt_share_nothing(self) -> None:
        scheduler = make_scheduler()
        hits = []
        for salt in ("", "a", "a", "b", ""):
            sequence = make_sequence(prompt=[7] * 12, answer=1)
            sequence.cache_salt = salt
            scheduler.add(sequence)
            hits.append(run_step(scheduler).prefix_hits)
        assert hits == [0, 0, 8, 0, 8]


class TestPolicies:
    def test_fcfs_goes_by_priority_then_arrival(self) -> None:
        scheduler = make_scheduler(max_batch_size=1)
        for name, at, priority in (("late", 2.0, 0), ("early", 1.0, 0), ("urgent", 3.0, -1)):
            scheduler.add(make_sequence(name, answer=1, arrived_s=at, priority=priority))
        order = [names(run_step(scheduler, now=4.0))[0] for _ in range(3)]
        assert order == ["urgent", "early", "late"]

    def test_deadline_goes_by_deadline_and_those_without_come_last(self) -> None:
        scheduler = make_scheduler(max_batch_size=1, scheduling_policy="deadline")
        for name, at, deadline in (("never", 0.0, None), ("later", 1.0, 9.0), ("soon", 2.0, 5.0)):
            sequence = make_sequence(name, answer=1, arrived_s=at)
            sequence.deadline_s = deadline
            scheduler.add(sequence)
        assert [names(run_step(scheduler, now=3.0))[0] for _ in range(3)] == ["soon", "later", "never"]

    def test_prefix_prefers_what_is_cached(self) -> None:
        scheduler = make_scheduler(max_batch_size=1, scheduling_policy="prefix")
        scheduler.add(make_sequence("seed", prompt=[7] * 12, answer=1))
        run_step(scheduler)
        scheduler.add(make_sequence("cold", prompt=[8] * 12, answer=1, arrived_s=1.0))
        scheduler.add(make_sequence("warm", prompt=[7] * 12, answer=1, arrived_s=2.0))
        batch = run_step(scheduler, now=3.0)
        assert names(batch) == ["warm"] and batch.prefix_hits == 8

    def test_no_class_overtakes_who_came_earlier_by_the_bound(self) -> None:
        scheduler = make_scheduler(max_batch_size=1)
        scheduler.add(make_sequence("patient", answer=1, arrived_s=0.0, priority=9))
        scheduler.add(make_sequence("urgent", answer=1, arrived_s=STARVATION_BOUND_S, priority=-9))
        assert names(run_step(scheduler, now=STARVATION_BOUND_S + 0.1)) == ["patient"]


class TestGather:
    def test_an_idle_engine_waits_for_company_but_not_longer_than_told(self) -> None:
        scheduler = make_scheduler(batch_wait_ms=20, max_batch_size=2)
        assert scheduler.gather_delay_s(now=0.0) == 0.0
        scheduler.add(make_sequence("a", arrived_s=1.0))
        assert 0.0149 < scheduler.gather_delay_s(now=1.005) < 0.0151
        assert scheduler.gather_delay_s(now=1.021) == 0.0
        scheduler.add(make_sequence("b", arrived_s=1.006))
        assert scheduler.gather_delay_s(now=1.007) == 0.0  # the batch is full

    def test_a_busy_engine_does_not_wait(self) -> None:
        scheduler = make_scheduler(batch_wait_ms=50)
        scheduler.add(make_sequence("a"))
        run_step(scheduler)
        scheduler.add(make_sequence("b", arrived_s=5.0))
        assert scheduler.gather_delay_s(now=5.0) == 0.0


class TestNumerics:
    def test_a_prefix_of_other_arithmetic_is_not_reused(self) -> None:
        scheduler = make_scheduler()
        scheduler.add(make_sequence("first", prompt=[5] * 12, answer=1))
        run_step(scheduler)
        scheduler.apply(scheduler.settings.replace(precision="int8"), "int8|model|0.0")
        scheduler.add(make_sequence("second", prompt=[5] * 12, answer=1))
        assert run_step(scheduler).prefix_hits == 0

    def test_blocks_of_mixed_arithmetic_are_never_found_again(self) -> None:
        scheduler = make_scheduler()
        mixed = make_sequence("mixed", prompt=[5] * 6, answer=10)
        scheduler.add(mixed)
        run_step(scheduler)
        scheduler.apply(scheduler.settings.replace(precision="int8"), "int8|model|0.0")
        while mixed.status is not SequenceStatus.FINISHED:
            run_step(scheduler)
        # Its first block was made before the change; the second, begun before it, and all after belong to neither.
        assert scheduler.blocks.cached_prefix_tokens(mixed, "int8|model|0.0") == 0
        assert scheduler.blocks.cached_prefix_tokens(mixed, NUMERICS) == 4


class TestFinish:
    def test_cancelling_a_waiting_and_a_running_request_frees_all(self) -> None:
        scheduler = make_scheduler(max_batch_size=1, prefix_cache=False)
        running, waiting = make_sequence("running"), make_sequence("waiting", arrived_s=1.0)
        scheduler.add(running)
        scheduler.add(waiting)
        run_step(scheduler)
        for sequence in (waiting, running, running):  # a second time is harmless
            scheduler.finish(sequence, FinishReason.CANCELLED)
        assert scheduler.blocks.num_free == scheduler.blocks.num_blocks
        assert scheduler.num_running == scheduler.num_waiting == 0
