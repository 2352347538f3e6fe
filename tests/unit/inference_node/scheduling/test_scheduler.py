"""Who runs in a step, and who does not."""

from inference_node.scheduling.scheduler import AGING_BOUND_S
from inference_node.scheduling.sequence import FinishReason, SequenceStatus
from tests.support.scheduling import NUMERICS, make_scheduler, make_sequence, run_step


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

    def test_a_long_prompt_at_the_head_is_not_overtaken(self) -> None:
        scheduler = make_scheduler(num_blocks=8, block_size=4)
        scheduler.add(make_sequence("running", prompt=16, answer=8))
        run_step(scheduler)
        scheduler.add(make_sequence("long", prompt=24, arrived_s=1.0))
        scheduler.add(make_sequence("short", prompt=2, arrived_s=2.0))
        assert names(run_step(scheduler, now=3.0)) == ["running"]


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

    def test_who_waited_beyond_the_bound_goes_first(self) -> None:
        scheduler = make_scheduler(max_batch_size=1)
        scheduler.add(make_sequence("patient", answer=1, arrived_s=0.0, priority=9))
        scheduler.add(make_sequence("urgent", answer=1, arrived_s=AGING_BOUND_S, priority=-9))
        assert names(run_step(scheduler, now=AGING_BOUND_S + 0.1)) == ["patient"]


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
        assert scheduler.blocks.cached_prefix_tokens(mixed.tokens, "int8|model|0.0") == 0
        assert scheduler.blocks.cached_prefix_tokens(mixed.tokens, NUMERICS) == 4


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
