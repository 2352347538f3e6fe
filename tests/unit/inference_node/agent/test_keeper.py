"""Settings over time: pushed, prepared, overtaken, refused, edited, restarted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference_node.agent.desired import Preparing, PushRejected
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import NodeStore
from inference_node.contract.messages import AckOutcome, RejectCode, SettingsAck, SettingsPush
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.errors import EngineStopped, SettingsRefused
from tests.support.fake_controlplane import eventually, push_of
from tests.support.fake_engine import FakeEngine

SMALL = EngineSettings(max_batch_size=4)
LARGE = EngineSettings(max_batch_size=6)
INT8 = EngineSettings(precision=Precision.INT8)


class Setup:
    def __init__(self, folder: Path) -> None:
        self.engines: list[FakeEngine] = []
        self.engine = self.new_engine()
        self.store = NodeStore(folder)
        self.counted: list[str] = []
        self.keeper = self.restart()

    def new_engine(self) -> FakeEngine:
        self.engine = FakeEngine()
        self.engine.start()
        self.engines.append(self.engine)
        return self.engine

    def restart(self) -> SettingsKeeper:
        self.keeper = SettingsKeeper(
            self.engine, self.store, self.store.load_settings(), preparing_after_s=30, count=self.counted.append
        )
        return self.keeper

    async def push_unprepared(self, push: SettingsPush) -> SettingsAck:
        """A push whose preparation does not end before it is answered."""
        self.engine.prepare.clear()
        self.keeper._preparing_after_s = 0.01
        try:
            return await self.keeper.apply_push(push)
        finally:
            self.keeper._preparing_after_s = 30


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    setup = Setup(tmp_path)
    yield setup
    for engine in setup.engines:
        engine.prepare.set()
    await asyncio.sleep(0.01)  # what is still being prepared ends here


class TestApplyPush:
    async def test_acknowledges_with_the_step(self, setup: Setup) -> None:
        ack = await setup.keeper.apply_push(push_of(SMALL, 1))
        assert (ack.outcome, ack.generation, ack.settings) == (AckOutcome.APPLIED, 1, SMALL)
        assert ack.applied_step == setup.keeper.observed.applied_step == 1
        assert ack.config_hash == SMALL.content_hash()

    async def test_a_refusal_for_quality_is_final_and_force_is_told(self, setup: Setup) -> None:
        setup.engine.needs_force = SettingsRefused(RejectCode.QUALITY, "precision", "too bad")
        with pytest.raises(PushRejected, match="too bad"):
            await setup.keeper.apply_push(push_of(INT8, 1))
        assert setup.keeper.known_generation == 1  # not asked for again
        ack = await setup.keeper.apply_push(push_of(INT8, 2, force=True))
        assert (ack.outcome, ack.forced) == (AckOutcome.APPLIED, True)

    async def test_tells_the_step_at_which_it_was_asked(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        asked_at = setup.engine.stats().step
        push, edit = await setup.keeper.apply_push(push_of(LARGE, 2)), await setup.keeper.edit({"max_queue": 9})
        assert (push.asked_step, push.applied_step) == (asked_at, asked_at + 1)
        assert (edit.asked_step, edit.applied_step) == (asked_at + 1, asked_at + 2)

    async def test_twice_applies_once(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        again = await setup.keeper.apply_push(push_of(SMALL, 1))
        assert again.outcome is AckOutcome.UNCHANGED
        assert setup.engine.applied == [SMALL]

    async def test_duplicates_at_once_apply_once(self, setup: Setup) -> None:
        acks = await asyncio.gather(*(setup.keeper.apply_push(push_of(SMALL, 1)) for _ in range(8)))
        assert setup.engine.applied == [SMALL]
        assert {ack.generation for ack in acks} == {1}

    async def test_out_of_order_generations_end_with_the_newest(self, setup: Setup) -> None:
        pushes = [push_of(EngineSettings(max_batch_size=n), n) for n in (3, 1, 5, 2, 4)]
        results = await asyncio.gather(*map(setup.keeper.apply_push, pushes), return_exceptions=True)
        assert setup.engine.settings.max_batch_size == 5
        assert setup.keeper.observed.generation == 5
        assert [type(result) for result in results].count(PushRejected) == 3

    async def test_a_refused_push_changes_nothing_and_is_told(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        with pytest.raises(PushRejected):
            await setup.keeper.apply_push(push_of(EngineSettings(max_batch_size=500), 2))
        assert setup.keeper.observed.generation == 1
        assert setup.keeper.rejected is not None and setup.keeper.rejected.generation == 2
        assert setup.counted == ["applied", "out_of_bounds"]

    async def test_what_the_engine_refuses_carries_its_code(self, setup: Setup) -> None:
        setup.engine.refuse = SettingsRefused(RejectCode.OUT_OF_MEMORY, "precision", "needs 1 GB more")
        with pytest.raises(PushRejected, match="1 GB") as caught:
            await setup.keeper.apply_push(push_of(INT8, 1))
        assert caught.value.code is RejectCode.OUT_OF_MEMORY
        assert setup.keeper.known_generation == 1  # not asked for again and again

    async def test_a_crash_of_the_engine_is_a_refusal_and_blocks_nothing(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def crashes(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(setup.engine, "apply", crashes)
            with pytest.raises(PushRejected, match="log says why"):
                await setup.keeper.apply_push(push_of(SMALL, 1))
        assert setup.keeper.preparing is None
        assert (await setup.keeper.apply_push(push_of(SMALL, 2))).outcome is AckOutcome.APPLIED

    async def test_a_stopped_engine_leaves_the_push_undecided(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def stopped(*_: object, **__: object) -> None:
            raise EngineStopped("draining")

        monkeypatch.setattr(setup.engine, "apply", stopped)
        with pytest.raises(EngineStopped):
            await setup.keeper.apply_push(push_of(SMALL, 1))
        assert setup.keeper.rejected is None and setup.keeper.preparing is None

    async def test_a_stale_epochs_generation_never_counts_as_known(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1, epoch=5))
        with pytest.raises(PushRejected):
            await setup.keeper.apply_push(push_of(LARGE, 99, epoch=4))
        assert setup.keeper.known_generation == 1


class TestPreparing:
    async def test_is_told_at_once_and_finished_later(self, setup: Setup) -> None:
        ack = await setup.push_unprepared(push_of(INT8, 1))
        assert (ack.outcome, ack.applied_step) == (AckOutcome.PREPARING, None)
        assert ack.settings.precision is Precision.BF16  # still in force
        preparing = setup.keeper.preparing
        assert preparing == Preparing(1, INT8.content_hash())
        assert setup.keeper.observed.generation == 0
        setup.engine.prepare.set()
        await eventually(lambda: setup.keeper.observed.generation == 1)
        assert setup.keeper.preparing is None

    async def test_the_same_push_again_is_still_preparing(self, setup: Setup) -> None:
        await setup.push_unprepared(push_of(INT8, 1))
        assert (await setup.push_unprepared(push_of(INT8, 1))).outcome is AckOutcome.PREPARING
        setup.engine.prepare.set()
        await eventually(lambda: setup.engine.applied == [INT8])

    async def test_a_newer_push_overtakes_it(self, setup: Setup) -> None:
        await setup.push_unprepared(push_of(INT8, 1))
        assert (await setup.keeper.apply_push(push_of(SMALL, 2))).outcome is AckOutcome.APPLIED
        setup.engine.prepare.set()
        await asyncio.sleep(0.01)
        assert setup.engine.applied == [SMALL]
        assert setup.keeper.observed.generation == 2 and setup.keeper.rejected is None

    async def test_a_late_refusal_is_told(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        async def refuses(*_: object, **__: object) -> None:
            await setup.engine.prepare.wait()
            raise SettingsRefused(RejectCode.OUT_OF_MEMORY, "precision", "needs 1 GB more")

        monkeypatch.setattr(setup.engine, "apply", refuses)
        await setup.push_unprepared(push_of(INT8, 1))
        setup.engine.prepare.set()
        await eventually(lambda: setup.keeper.rejected is not None)
        assert setup.keeper.preparing is None

    async def test_a_late_refusal_of_an_edit_is_told_until_the_next(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refuses(*_: object, **__: object) -> None:
            await setup.engine.prepare.wait()
            raise SettingsRefused(RejectCode.QUALITY, "precision", "too bad")

        monkeypatch.setattr(setup.engine, "apply", refuses)
        setup.engine.prepare.clear()
        setup.keeper._preparing_after_s = 0.01
        assert (await setup.keeper.edit({"precision": "int8"})).outcome is AckOutcome.PREPARING
        setup.engine.prepare.set()
        await eventually(lambda: setup.keeper.edit_refused is not None)
        assert "too bad" in (setup.keeper.edit_refused or "")
        monkeypatch.undo()
        await setup.keeper.edit({"max_queue": 9})
        assert setup.keeper.edit_refused is None

    async def test_overtaken_by_an_edit_it_is_not_refused_but_asked_for_again(self, setup: Setup) -> None:
        await setup.push_unprepared(push_of(INT8, 1))
        setup.keeper._preparing_after_s = 0.01
        await setup.keeper.edit({"max_queue": 9})
        setup.engine.prepare.set()
        await eventually(lambda: setup.engine.settings.max_queue == 9)
        await asyncio.sleep(0.01)
        assert setup.keeper.rejected is None
        assert setup.keeper.known_generation == 0


class TestEdit:
    async def test_marks_the_node_as_drifted_until_the_push_comes_again(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        await setup.keeper.edit({"max_queue": 9})
        drifted, edited = setup.keeper.observed.drifted, setup.keeper.edited
        assert drifted and edited and setup.engine.settings.max_queue == 9
        assert setup.engine.settings.max_batch_size == 4
        ack = await setup.keeper.apply_push(push_of(SMALL, 1))
        assert ack.outcome is AckOutcome.APPLIED and not setup.keeper.observed.drifted and not setup.keeper.edited
        assert setup.engine.settings == SMALL

    async def test_two_in_a_row_both_come_true(self, setup: Setup) -> None:
        setup.engine.prepare.clear()
        setup.keeper._preparing_after_s = 0.01
        await setup.keeper.edit({"precision": "int8"})
        await setup.keeper.edit({"max_queue": 9})
        setup.engine.prepare.set()
        await eventually(lambda: setup.engine.settings == INT8.replace(max_queue=9))

    async def test_before_any_push_there_is_nothing_to_drift_from(self, setup: Setup) -> None:
        await setup.keeper.edit({"max_queue": 9})
        assert not setup.keeper.observed.drifted

    @pytest.mark.parametrize(
        "changes", [{"max_batch_size": 0}, {"max_batch_size": "many"}, {"no_such": 1}, {"precision": "fp8"}]
    )
    async def test_a_wrong_edit_changes_nothing(self, setup: Setup, changes: dict[str, int | str]) -> None:
        with pytest.raises(PushRejected) as caught:
            await setup.keeper.edit(changes)
        assert caught.value.knob == next(iter(changes))
        assert setup.engine.applied == []


class TestRestart:
    async def test_remembers_generation_epoch_and_settings(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 4, epoch=2))
        observed = setup.restart().observed
        assert (observed.generation, observed.epoch, observed.settings) == (4, 2, SMALL)
        with pytest.raises(PushRejected):
            await setup.keeper.apply_push(push_of(LARGE, 5, epoch=1))

    async def test_runs_on_something_else_than_stored_and_says_so(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(INT8, 4))
        setup.new_engine()
        restarted = setup.restart()
        assert restarted.observed.drifted and not restarted.edited  # nobody edited it

    async def test_takes_up_a_change_that_was_cut_off_once(self, setup: Setup) -> None:
        await setup.push_unprepared(push_of(INT8, 1))  # and the process dies here
        setup.new_engine()
        first = setup.restart()
        await first.resume()
        assert setup.engine.applied == [INT8] and first.observed.generation == 1

    async def test_a_change_that_stops_the_node_twice_is_let_go(self, setup: Setup) -> None:
        await setup.push_unprepared(push_of(INT8, 1))
        setup.new_engine()
        setup.engine.prepare.clear()
        setup.restart()._preparing_after_s = 0.01
        await setup.keeper.resume()  # dies again in the same change
        setup.new_engine()
        await setup.restart().resume()
        assert setup.engine.applied == []


class TestLease:
    async def test_the_fallback_holds_again_when_it_ends(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        await setup.keeper.apply_push(push_of(LARGE, 2, lease_s=0.05, fallback=SMALL))
        assert setup.engine.settings == LARGE
        await eventually(lambda: setup.keeper.observed.lapsed)
        observed = setup.keeper.observed
        assert (setup.engine.settings, observed.settings, observed.generation) == (SMALL, SMALL, 2)
        assert (observed.drifted, observed.lease) == (False, None)
        await eventually(lambda: setup.counted[-1] == "lapsed")

    async def test_what_has_ended_is_not_begun_again_by_a_repeated_push(self, setup: Setup) -> None:
        tried = push_of(LARGE, 1, lease_s=0.02, fallback=SMALL)
        await setup.keeper.apply_push(tried)
        await eventually(lambda: setup.keeper.observed.lapsed)
        with pytest.raises(PushRejected, match="has ended") as caught:
            await setup.keeper.apply_push(tried)
        assert caught.value.code is RejectCode.STALE_GENERATION
        assert (await setup.keeper.apply_push(push_of(LARGE, 2))).outcome is AckOutcome.APPLIED
        assert not setup.keeper.observed.lapsed

    async def test_a_newer_push_ends_the_lease_with_the_experiment(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(LARGE, 1, lease_s=0.05, fallback=SMALL))
        await setup.keeper.apply_push(push_of(INT8, 2))
        await asyncio.sleep(0.15)
        assert (setup.engine.settings, setup.keeper.observed.lapsed) == (INT8, False)

    async def test_a_newer_push_on_its_way_is_not_overtaken_by_the_end(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(LARGE, 1, lease_s=0.05, fallback=SMALL))
        await setup.push_unprepared(push_of(INT8, 2))
        await asyncio.sleep(0.15)
        setup.engine.prepare.set()
        await eventually(lambda: setup.engine.settings == INT8)
        await asyncio.sleep(0.05)
        assert (setup.engine.settings, setup.keeper.observed.lapsed) == (INT8, False)

    async def test_an_operators_edit_does_not_outlive_it(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(LARGE, 1, lease_s=0.1, fallback=SMALL))
        await setup.keeper.edit({"max_queue": 9})
        await eventually(lambda: setup.keeper.observed.lapsed)
        assert (setup.engine.settings, setup.keeper.observed.drifted) == (SMALL, False)

    async def test_it_ends_with_the_process(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(LARGE, 1, lease_s=3600, fallback=SMALL))
        stored = setup.store.load_settings()
        assert stored is not None and (stored.settings, stored.lapsed, stored.generation) == (SMALL, True, 1)
        setup.engine = FakeEngine(stored.settings)
        setup.engine.start()
        again = setup.restart()
        assert (again.observed.settings, again.observed.lapsed, again.observed.drifted) == (SMALL, True, False)

    async def test_one_that_was_cut_off_is_not_taken_up(self, setup: Setup) -> None:
        await setup.keeper.apply_push(push_of(SMALL, 1))
        await setup.push_unprepared(push_of(INT8, 2, lease_s=60, fallback=SMALL))
        setup.new_engine()
        again = setup.restart()
        await again.resume()
        assert setup.engine.applied == []

    async def test_the_way_back_is_tried_until_it_works(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        await setup.keeper.apply_push(push_of(LARGE, 1, lease_s=0.02, fallback=SMALL))
        setup.engine.refuse = SettingsRefused(RejectCode.OUT_OF_MEMORY, "precision", "not now")
        await asyncio.sleep(0.1)
        assert setup.engine.settings == LARGE
        setup.engine.refuse = None
        await eventually(lambda: setup.keeper.observed.lapsed)
        assert setup.engine.settings == SMALL

    def test_a_lease_must_say_what_holds_after_it(self) -> None:
        with pytest.raises(ValueError, match="come together"):
            push_of(LARGE, 1, lease_s=5)
