"""Whole requests through the engine's thread: what comes out, what is turned meanwhile, and what must never happen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from inference_node.contract.messages import AckOutcome, RejectCode
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.errors import (
    EngineStopped,
    PromptTooLong,
    QueueFull,
    RequestInvalid,
    SettingsRefused,
    Superseded,
)
from inference_node.engine.listener import RequestRecord, SilentListener, StepRecord
from inference_node.engine.requests import EngineRequest, FinishReason
from inference_node.model.runner import ModelRunner
from inference_node.model.weights import WeightStore
from inference_node.scheduling.sampling_params import SamplingParams
from tests.support.engines import Answered, ask, running_engine
from tests.support.measured import share
from tests.support.models import EOS, demo_model, save_tiny_model


class Recorder(SilentListener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[StepRecord] = []
        self.finished: list[RequestRecord] = []
        self.rejected: list[str] = []
        self.applied: list[tuple[int, tuple[str, ...]]] = []
        self.num_first = self.num_between = 0

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record)

    def on_request_finished(self, record: RequestRecord) -> None:
        self.finished.append(record)

    def on_request_rejected(self, reason: str) -> None:
        self.rejected.append(reason)

    def on_token_times(self, first_token_s: Sequence[float], inter_token_s: Sequence[float]) -> None:
        self.num_first += len(first_token_s)
        self.num_between += len(inter_token_s)

    def on_settings_applied(self, settings: EngineSettings, step: int, changed: Sequence[str]) -> None:
        self.applied.append((step, tuple(changed)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@pytest_asyncio.fixture
async def engine(tiny: Path, tmp_path: Path, heard: Recorder) -> AsyncIterator[AsyncEngine]:
    async with running_engine(tiny, tmp_path, listener=heard) as engine:
        yield engine


class InParts:
    """A runner's sizes of step as a GPU has them: some when weights come into force, the rest later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
        self.parts, self.begun, self.left = parts, 0, 0
        self.stores: list[WeightStore] = []
        self.failing: Exception | None = None
        monkeypatch.setattr(ModelRunner, "begin", self.begin)
        monkeypatch.setattr(ModelRunner, "ready_for", self.ready_for)
        monkeypatch.setattr(ModelRunner, "warm_next", self.warm_next)

    def begin(self, store: WeightStore, kv: KvPrecision) -> None:
        self.begun, self.left = self.begun + 1, self.parts
        self.stores.append(store)

    def ready_for(self, store: WeightStore, kv: KvPrecision) -> bool:
        return store.precision is Precision.BF16 or any(store is each for each in self.stores)

    def warm_next(self, store: object) -> bool:
        if self.failing is not None:
            raise self.failing
        self.left -= self.left > 0
        return self.left > 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_weights_come_into_force_before_every_size_of_step_is_prepared(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = InParts(monkeypatch, parts=3)
    applied = await engine.apply(engine.settings.replace(precision="fp32"), force=True)
    assert (applied.settings.precision, runner.begun) == ("fp32", 1)
    await until(lambda: runner.left == 0)


async def test_sizes_that_cannot_be_prepared_hold_up_nothing(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = InParts(monkeypatch, parts=3)
    runner.failing = RuntimeError("out of memory")
    await engine.apply(engine.settings.replace(precision="fp32"), force=True)
    await until(lambda: "out of memory" in caplog.text)
    assert (await ask(engine, "after", prompts(1)[0], max_tokens=3)).tokens
    runner.failing = None
    await engine.apply(engine.settings.replace(precision="bf16"), force=True)
    engine.drop_unused_formats()
    await engine.apply(engine.settings.replace(precision="fp32"), force=True)
    await until(lambda: runner.begun == 2 and runner.left == 0)


def prompts(count: int, length: int = 20) -> list[list[int]]:
    return [[(7 * i + 3 * j) % 256 for j in range(length)] for i in range(count)]


async def ask_all(engine: AsyncEngine, asked: Sequence[Sequence[int]], name: str, **sampling: object) -> list[Answered]:
    return list(await asyncio.gather(*(ask(engine, f"{name}-{i}", p, **sampling) for i, p in enumerate(asked))))


class TestAnswers:
    async def test_every_token_comes_once_and_the_last_delta_tells_all(
        self, engine: AsyncEngine, heard: Recorder
    ) -> None:
        answer = await ask(engine, "r", prompts(1)[0], max_tokens=9, ignore_eos=True)
        assert len(answer.tokens) == 9
        assert [delta.num_generated_tokens for delta in answer.deltas] == list(range(1, 10))
        assert [delta.finish_reason for delta in answer.deltas] == [None] * 8 + [FinishReason.LENGTH]
        timing = answer.last.timing
        assert timing is not None and timing.ttft_s is not None and 0 < timing.ttft_s <= timing.e2e_s
        assert [record.finish_reason for record in heard.finished] == [FinishReason.LENGTH]
        assert (heard.num_first, heard.num_between) == (1, 8)
        assert sum(step.generated_tokens for step in heard.steps) == 9
        assert sum(step.prefill_tokens for step in heard.steps) == 20

    async def test_the_text_is_the_decoding_of_the_tokens(self, engine: AsyncEngine) -> None:
        answer = await ask(engine, "r", prompts(1)[0], max_tokens=60, temperature=1.0, seed=5, ignore_eos=True)
        assert answer.text == engine.tokenizer.decode(answer.tokens, skip_special_tokens=True)

    async def test_a_stop_string_ends_the_answer_before_itself(self, engine: AsyncEngine) -> None:
        whole = await ask(engine, "whole", prompts(1)[0], max_tokens=60, temperature=1.0, seed=8, ignore_eos=True)
        stop = whole.text[20:23]
        cut = await ask(
            engine, "cut", prompts(1)[0], max_tokens=60, temperature=1.0, seed=8, ignore_eos=True, stop=(stop,)
        )
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert cut.last.finish_reason is FinishReason.STOP and cut.last.stop_reason == stop

    async def test_the_end_token_ends_it_unless_ignored(self, engine: AsyncEngine) -> None:
        # A request that may only draw the end token: seeds are tried until a draw brings it.
        for seed in range(2000):
            answer = await ask(engine, f"s{seed}", [1, 2, 3], max_tokens=5, temperature=2.0, seed=seed)
            if EOS in answer.tokens:
                break
        assert answer.tokens[-1] == EOS and answer.last.finish_reason is FinishReason.STOP
        on = await ask(engine, "on", [1, 2, 3], max_tokens=5, temperature=2.0, seed=seed, ignore_eos=True)
        assert len(on.tokens) == 5 and on.tokens[: len(answer.tokens)] == answer.tokens

    async def test_an_answer_stops_at_the_models_length(self, engine: AsyncEngine) -> None:
        answer = await ask(engine, "r", prompts(1, 500)[0], max_tokens=100, ignore_eos=True)
        assert len(answer.tokens) == 12 and answer.last.finish_reason is FinishReason.LENGTH

    async def test_a_seeded_request_draws_the_same_in_company(self, engine: AsyncEngine) -> None:
        sampling = {"max_tokens": 20, "temperature": 1.2, "top_p": 0.9, "seed": 3, "ignore_eos": True}
        alone = await ask(engine, "alone", prompts(1)[0], **sampling)
        company = await asyncio.gather(
            ask(engine, "again", prompts(1)[0], **sampling),
            *(ask(engine, f"o{i}", p, max_tokens=20, temperature=1.0) for i, p in enumerate(prompts(5, 30))),
        )
        assert company[0].tokens == alone.tokens

    async def test_logprobs_come_with_their_tokens(self, engine: AsyncEngine) -> None:
        answer = await ask(engine, "r", prompts(1)[0], max_tokens=3, logprobs=2, ignore_eos=True)
        for delta in answer.deltas:
            assert delta.logprobs is not None
            (token,) = delta.logprobs
            assert token.token_id == delta.token_ids[0] == token.top[0].token_id
            assert token.logprob == pytest.approx(token.top[0].logprob) and len(token.top) == 2


class TestRefusals:
    async def test_each_names_its_cause(self, engine: AsyncEngine, heard: Recorder) -> None:
        def request(prompt: Sequence[int]) -> EngineRequest:
            return EngineRequest("r", tuple(prompt), SamplingParams())

        with pytest.raises(PromptTooLong) as caught:
            await engine.submit(request(range(512)))
        assert (caught.value.limit, caught.value.got) == (511, 512)
        with pytest.raises(RequestInvalid, match="at least one token"):
            await engine.submit(request([]))
        with pytest.raises(RequestInvalid, match="outside 0 to 271"):
            await engine.submit(request([272]))
        assert heard.rejected == ["prompt_too_long", "invalid", "invalid"]

    async def test_a_full_queue_says_when_to_come_back(self, engine: AsyncEngine, heard: Recorder) -> None:
        await engine.apply(engine.settings.replace(max_batch_size=1, max_queue=2))
        params = SamplingParams(max_tokens=400, temperature=0.0, ignore_eos=True)
        streams = [await engine.submit(EngineRequest(f"r{i}", (1, 2, 3), params)) for i in range(3)]
        with pytest.raises(QueueFull) as caught:
            await engine.submit(EngineRequest("late", (1, 2, 3), params))
        assert caught.value.retry_after_s >= 1 and heard.rejected == ["queue_full"]
        for stream in streams:
            stream.cancel()
        assert [[d async for d in s][-1].finish_reason for s in streams] == [FinishReason.CANCELLED] * 3
        # And afterwards there is room again, with nothing left behind.
        assert len((await ask(engine, "after", [1, 2, 3], max_tokens=2, ignore_eos=True)).tokens) == 2
        assert engine.stats().blocks_used == 0

    async def test_settings_that_this_node_cannot_run(self, engine: AsyncEngine) -> None:
        before = engine.settings
        for change, code, knob in (
            ({"precision": "int4"}, RejectCode.NOT_SUPPORTED, "precision"),
            ({"precision": "fp8"}, RejectCode.NOT_SUPPORTED, "precision"),
            ({"kv_precision": "int8"}, RejectCode.NOT_SUPPORTED, "kv_precision"),
        ):
            with pytest.raises(SettingsRefused) as caught:
                await engine.apply(before.replace(**change))
            assert (caught.value.code, caught.value.knob) == (code, knob)
        assert engine.settings == before

    async def test_a_precision_that_memory_has_no_room_for(
        self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("inference_node.engine.reconfigure.available_bytes", lambda: 1_000_000)
        with pytest.raises(SettingsRefused, match="MB free") as caught:
            await engine.apply(engine.settings.replace(precision="fp32"))
        assert caught.value.code is RejectCode.OUT_OF_MEMORY
        assert engine.stats().preparing is None and (await ask(engine, "on", [1], max_tokens=1)).tokens


class TestApply:
    async def test_tells_the_step_from_which_it_holds(self, engine: AsyncEngine, heard: Recorder) -> None:
        await ask(engine, "before", [1, 2], max_tokens=3, ignore_eos=True)
        applied = await engine.apply(engine.settings.replace(max_batch_size=3, max_batched_tokens=64))
        assert (applied.step, applied.outcome) == (4, AckOutcome.APPLIED)
        assert heard.applied == [(4, ("max_batch_size", "max_batched_tokens"))]
        again = await engine.apply(engine.settings)
        assert again.outcome is AckOutcome.UNCHANGED and len(heard.applied) == 1

    async def test_a_precision_is_swapped_under_a_running_request(self, engine: AsyncEngine) -> None:
        params = SamplingParams(max_tokens=300, temperature=0.0, ignore_eos=True)
        stream = await engine.submit(EngineRequest("r", (1, 2, 3), params))
        await anext(stream)
        for precision in ("int8", "fp32", "bf16"):
            # Forced: a measurement may take longer than the whole answer.
            await engine.apply(engine.settings.replace(precision=precision), force=True)
        rest = [delta async for delta in stream]
        assert 1 + sum(len(delta.token_ids) for delta in rest) == 300
        assert {delta.numerics.split("|")[0] for delta in rest} <= {"bf16", "int8", "fp32"}
        assert rest[-1].numerics == "bf16|model|0.0"

    async def test_newer_settings_take_the_place_of_those_being_prepared(self, engine: AsyncEngine) -> None:
        older = asyncio.create_task(engine.apply(engine.settings.replace(precision="fp32")))
        await asyncio.sleep(0)
        newer = await engine.apply(engine.settings.replace(max_batch_size=2))
        with pytest.raises(Superseded):
            await older
        assert engine.settings == newer.settings and newer.settings.precision == "bf16"

    async def test_many_pushes_at_once_end_with_the_last(self, engine: AsyncEngine) -> None:
        pushes = [
            engine.apply(engine.settings.replace(precision=precision, max_batch_size=size))
            for size, precision in enumerate(("int8", "fp32", "int8", "bf16", "fp32", "int8"), start=1)
        ]
        outcomes = await asyncio.gather(*pushes, return_exceptions=True)
        assert all(isinstance(outcome, Superseded) or not isinstance(outcome, BaseException) for outcome in outcomes)
        assert not isinstance(outcomes[-1], BaseException)
        assert (engine.settings.precision, engine.settings.max_batch_size) == ("int8", 6)

    async def test_pruning_at_zero_is_the_same_bit_by_bit_and_above_it_drops_its_share(
        self, engine: AsyncEngine, heard: Recorder
    ) -> None:
        plain = await ask(engine, "plain", prompts(1)[0], max_tokens=30, ignore_eos=True, logprobs=1)
        await engine.apply(engine.settings.replace(pruning_threshold=0.5), force=True)  # noise knows no quality
        pruned = await ask(engine, "pruned", prompts(1)[0], max_tokens=30, ignore_eos=True, logprobs=1)
        assert pruned.last.numerics == "bf16|model|0.5"
        assert 0.4 < engine.stats().pruned_ratio < 0.6 and heard.steps[-1].pruned_ratio > 0.4
        await engine.apply(engine.settings.replace(pruning_threshold=0.0))
        again = await ask(engine, "again", prompts(1)[0], max_tokens=30, ignore_eos=True, logprobs=1)
        assert [d.logprobs for d in again.deltas] == [d.logprobs for d in plain.deltas]
        assert [d.logprobs for d in pruned.deltas] != [d.logprobs for d in plain.deltas]

    async def test_calibration_is_learned_once_and_found_again(self, tiny: Path, tmp_path: Path) -> None:
        settings = EngineSettings(pruning_threshold=0.3)
        async with running_engine(tiny, tmp_path, settings):
            pass
        (table,) = (tmp_path / "calibration").iterdir()
        written = table.stat().st_mtime_ns
        async with running_engine(tiny, tmp_path, settings) as engine:
            assert engine.settings.pruning_threshold == 0.3
        assert table.stat().st_mtime_ns == written
        table.write_text("{")  # torn: it is learned anew, and nobody is bothered
        async with running_engine(tiny, tmp_path, settings) as engine:
            assert (await ask(engine, "r", [1], max_tokens=1)).tokens
        assert table.read_bytes() != b"{"


class TestFailures:
    async def test_a_failing_step_ends_its_batch_only(
        self, engine: AsyncEngine, heard: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = engine._first.runner.run
        broken = {"left": 1}

        def run_once_broken(*arguments: object) -> object:
            if broken["left"]:
                broken["left"] -= 1
                raise RuntimeError("a kernel failed")
            return run(*arguments)  # type: ignore[arg-type]  # passed through

        await engine.apply(engine.settings.replace(max_batch_size=2))
        monkeypatch.setattr(engine._first.runner, "run", run_once_broken)
        answers = await ask_all(engine, prompts(4), "r", max_tokens=4, ignore_eos=True)
        reasons = [answer.last.finish_reason for answer in answers]
        assert reasons.count(FinishReason.ERROR) in (1, 2)
        assert reasons.count(FinishReason.LENGTH) == 4 - reasons.count(FinishReason.ERROR)
        failed = next(answer for answer in answers if answer.last.finish_reason is FinishReason.ERROR)
        assert failed.last.error is not None and "a kernel failed" in failed.last.error
        assert engine.last_error == failed.last.error and engine.stats().failed_steps == 1
        assert {record.error for record in heard.finished} == {None, "step_failed"}
        assert engine.stats().blocks_used == 0

    async def test_cancelling_while_it_waits_and_while_it_runs(self, engine: AsyncEngine) -> None:
        params = SamplingParams(max_tokens=400, temperature=0.0, ignore_eos=True)
        await engine.apply(engine.settings.replace(max_batch_size=1))
        running = await engine.submit(EngineRequest("running", (1, 2), params))
        waiting = await engine.submit(EngineRequest("waiting", (3, 4), params))
        await anext(running)
        waiting.cancel()
        assert [d.finish_reason async for d in waiting] == [FinishReason.CANCELLED]
        async with running:
            pass  # leaving closes it
        last = [delta async for delta in running][-1]
        assert last.finish_reason is FinishReason.CANCELLED and 1 <= last.num_generated_tokens < 400
        assert engine.stats().running == 0

    async def test_shutdown_lets_running_requests_end_and_takes_no_new_ones(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path) as engine:
            streams = [
                await engine.submit(
                    EngineRequest(f"r{i}", (i, 2), SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True))
                )
                for i in range(4)
            ]
            stopping = asyncio.create_task(engine.shutdown(drain_s=60))
            await asyncio.sleep(0)
            with pytest.raises(EngineStopped):
                await engine.submit(EngineRequest("late", (1,), SamplingParams()))
            await stopping
            for stream in streams:
                assert [d async for d in stream][-1].finish_reason is FinishReason.LENGTH
            with pytest.raises(EngineStopped):
                await engine.apply(engine.settings.replace(max_batch_size=2))

    async def test_shutdown_without_time_cancels_and_tells_so(self, tiny: Path, tmp_path: Path) -> None:
        async with running_engine(tiny, tmp_path) as engine:
            params = SamplingParams(max_tokens=500, temperature=0.0, ignore_eos=True)
            stream = await engine.submit(EngineRequest("r", (1, 2), params))
            await anext(stream)
            await engine.shutdown(drain_s=0)
            assert [d async for d in stream][-1].finish_reason is FinishReason.CANCELLED

    async def test_a_pool_too_small_for_all_preempts_and_answers_the_same(self, tiny: Path, tmp_path: Path) -> None:
        asked = prompts(6, 100)
        async with running_engine(tiny, tmp_path) as roomy:
            expected = [a.tokens for a in await ask_all(roomy, asked, "r", max_tokens=100, ignore_eos=True)]
        async with running_engine(tiny, tmp_path, kv_tokens=512) as tight:
            answers = await ask_all(tight, asked, "r", max_tokens=100, ignore_eos=True)
            assert tight.stats().preemptions > 0
        assert [answer.tokens for answer in answers] == expected


@pytest.mark.model
class TestDemoModel:
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
    async def test_company_and_turned_knobs_change_no_token(
        self, precision: str, tmp_path: Path, measured: Path
    ) -> None:
        """Eight greedy requests, each alone; then all at once while batch, budget, prefix cache and policy are turned."""
        folder = demo_model()
        settings = EngineSettings(precision=precision)
        data_dir = share(measured, tmp_path)
        async with running_engine(folder, data_dir, settings, max_model_len=256, kv_tokens=4096) as engine:
            asked = [engine.tokenizer(f"{topic} is")["input_ids"] * 3 for topic in TOPICS]
            asked = [[*([500 + i] * (11 * i)), *prompt] for i, prompt in enumerate(asked)]
            sampling = {"max_tokens": 24, "ignore_eos": True}
            alone = [(await ask(engine, f"a{i}", p, **sampling)).tokens for i, p in enumerate(asked)]
            everybody = asyncio.create_task(ask_all(engine, asked, "b", **sampling))
            turns = (
                {"max_batch_size": 3, "max_batched_tokens": 64},
                {"prefix_cache": False, "scheduling_policy": "prefix"},
                {"max_batch_size": 8, "max_batched_tokens": 70},
                {"prefix_cache": True, "scheduling_policy": "deadline", "batch_wait_ms": 5},
                {"max_batch_size": 2, "max_batched_tokens": 512},
            )
            turned = 0
            while not everybody.done():
                await engine.apply(engine.settings.replace(**turns[turned % len(turns)]))
                turned += 1
                before = engine.stats().step
                while engine.stats().step < before + 4 and not everybody.done():
                    await asyncio.sleep(0.01)
            assert turned >= len(turns)
            assert [answer.tokens for answer in await everybody] == alone

    async def test_it_knows_the_capital_of_france(self, tmp_path: Path) -> None:
        async with running_engine(demo_model(), tmp_path) as engine:
            chat = [{"role": "user", "content": "Name the capital of France."}]
            prompt = engine.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
            for precision in ("fp32", "bf16", "int8"):
                await engine.apply(engine.settings.replace(precision=precision), force=True)
                answer = await ask(engine, precision, prompt, max_tokens=24)
                assert "Paris" in answer.text


TOPICS = ("The sea", "A good bridge", "Iron", "The oldest city", "Music", "A prime number", "Rain", "The moon")
