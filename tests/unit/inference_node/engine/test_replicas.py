"""Replicas on their threads, with a clock for a model: who serves what, one set of settings for all, and what an end leaves."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from inference_node.config import NodeConfig
from inference_node.contract.messages import AckOutcome
from inference_node.contract.settings import EngineSettings
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.engine import Change
from inference_node.engine.errors import EngineStopped, QueueFull
from inference_node.engine.listener import RequestRecord, SilentListener, StepRecord
from inference_node.engine.requests import EngineRequest, FinishReason, TokenDelta
from inference_node.engine.streams import TokenStream
from inference_node.scheduling.sampling_params import SamplingParams
from tests.support.models import byte_tokenizer
from tests.support.no_model import ClockRunner, make_async_engine

SMALL = EngineSettings(max_batch_size=1, max_queue=1000)


class Heard(SilentListener):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.finished: list[RequestRecord] = []

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record.step)

    def on_request_finished(self, record: RequestRecord) -> None:
        self.finished.append(record)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest_asyncio.fixture
async def engine(tmp_path: Path, heard: Heard) -> AsyncIterator[AsyncEngine]:
    """Three replicas of one sequence each, whose steps take 2 ms."""
    config = NodeConfig(model=tmp_path, data_dir=tmp_path, max_model_len=256)
    runner = ClockRunner(lambda count: count % 7, num_blocks=64, step_s=0.002)
    engine = make_async_engine(config, byte_tokenizer(tmp_path), runner, SMALL, heard, replicas=3)
    engine.start()
    yield engine
    await engine.shutdown(drain_s=0)


def request(name: str, prompt: Sequence[int] = (1, 2, 3), tokens: int = 5) -> EngineRequest:
    return EngineRequest(name, tuple(prompt), SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True))


async def read(stream: TokenStream) -> list[TokenDelta]:
    return [delta async for delta in stream]


def all_to_the_first(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_node.engine.replicas.choose_replica", lambda loads, shares: 0)


class TestWorkStealing:
    async def test_the_idle_take_what_one_leaves_waiting(
        self, engine: AsyncEngine, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_to_the_first(engine, monkeypatch)
        streams = [await engine.submit(request(f"r{i}")) for i in range(30)]
        answers = await asyncio.gather(*map(read, streams))
        assert [[token for d in deltas for token in d.token_ids] for deltas in answers] == [[3, 4, 5, 6, 0]] * 30
        assert sorted(record.request_id for record in heard.finished) == sorted(f"r{i}" for i in range(30))
        taken = [one.taken_over for one in engine.stats().replicas]
        assert taken[1] > 0 and taken[2] > 0 and sum(one.steps for one in engine.stats().replicas) == len(heard.steps)

    async def test_one_that_is_cancelled_is_taken_by_nobody(
        self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Cancelled at random moments, while queues are taken from: each ends once, and nothing is left behind."""
        all_to_the_first(engine, monkeypatch)
        source = random.Random(7)
        streams = [await engine.submit(request(f"r{i}", tokens=source.randrange(1, 20))) for i in range(120)]

        async def leave(stream: TokenStream) -> None:
            await asyncio.sleep(source.uniform(0, 0.2))
            stream.cancel()

        leaving = [leave(stream) for stream in streams[::2]]
        answers, _ = await asyncio.gather(asyncio.gather(*map(read, streams)), asyncio.gather(*leaving))
        for deltas in answers:
            assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
        stats = engine.stats()
        assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)

    async def test_first_come_is_first_served_over_all(
        self, engine: AsyncEngine, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_to_the_first(engine, monkeypatch)
        streams = [await engine.submit(request(f"r{i}", tokens=10)) for i in range(24)]
        await asyncio.gather(*map(read, streams))
        begun = sorted(heard.finished, key=lambda record: record.timing.first_scheduled_s or 0.0)
        places = {record.request_id: place for place, record in enumerate(begun)}
        # Three run at a time: nobody is begun before more than those that ran beside it.
        assert all(abs(places[f"r{i}"] - i) <= 3 for i in range(24))


class TestPlacing:
    async def test_load_is_shared_and_a_prefix_found_again(self, engine: AsyncEngine) -> None:
        prompt = list(range(7)) * 20
        first = await read(await engine.submit(request("a", prompt)))
        assert first[-1].num_cached_tokens == 0
        await read(await engine.submit(request("other", [6] * 100)))  # the same replica: nobody has anything to do
        again = await read(await engine.submit(request("b", prompt)))
        assert again[-1].num_cached_tokens == 128
        assert [one.steps > 0 for one in engine.stats().replicas] == [True, False, False]

    async def test_the_queue_is_the_nodes(self, engine: AsyncEngine) -> None:
        await engine.apply(SMALL.replace(max_queue=2))
        streams = [await engine.submit(request(f"r{i}", tokens=200)) for i in range(5)]
        with pytest.raises(QueueFull) as caught:
            await engine.submit(request("late"))
        assert caught.value.limit == 2
        for stream in streams:
            stream.cancel()


class TestApply:
    async def test_one_set_of_settings_is_applied_to_all(self, engine: AsyncEngine, heard: Heard) -> None:
        streams = [await engine.submit(request(f"r{i}", tokens=40)) for i in range(9)]
        reading = [asyncio.create_task(read(stream)) for stream in streams]
        await asyncio.sleep(0.01)
        wanted = SMALL.replace(max_batch_size=3, scheduling_policy="deadline")
        applied = await engine.apply(wanted)
        assert (applied.outcome, applied.settings, engine.settings) == (AckOutcome.APPLIED, wanted, wanted)
        assert [each.settings for each in engine._loaded.engines] == [wanted] * 3
        assert engine.stats().batch_cap == 9
        await asyncio.gather(*reading)
        # A number names one step, whoever ran it, and those from the one that was told on ran under the new settings.
        assert len(set(heard.steps)) == len(heard.steps) and max(heard.steps) >= applied.step

    async def test_when_one_cannot_none_does(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        last, apply = engine._loaded.engines[2], engine._loaded.engines[2].apply
        broken = [True]

        def refuse_once(change: Change) -> int:
            if broken.pop():
                raise MemoryError("no room for that")
            return apply(change)

        broken.insert(0, False)
        monkeypatch.setattr(last, "apply", lambda change: refuse_once(change) if broken else apply(change))
        with pytest.raises(MemoryError, match="no room"):
            await engine.apply(SMALL.replace(max_batch_size=2))
        assert engine.settings == SMALL
        assert [each.settings for each in engine._loaded.engines] == [SMALL] * 3
        assert (await engine.apply(SMALL.replace(max_batch_size=2))).outcome is AckOutcome.APPLIED
        assert [each.scheduler.batch_cap for each in engine._loaded.engines] == [2] * 3

    async def test_whoever_comes_meanwhile_waits_for_no_conversion(
        self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change that converts the cache takes long; requests are taken in beside it."""
        under_way, may_end = threading.Event(), threading.Event()

        def convert(numerics: object, used_blocks: list[int]) -> bool:
            under_way.set()
            return not may_end.wait(10)

        monkeypatch.setattr(engine._first.runner, "switch", convert)
        applying = asyncio.create_task(engine.apply(SMALL.replace(max_batch_size=2)))
        await asyncio.to_thread(under_way.wait)
        streams = [await engine.submit(request(f"r{i}")) for i in range(6)]
        assert not applying.done()
        may_end.set()
        assert (await applying).outcome is AckOutcome.APPLIED
        await asyncio.gather(*map(read, streams))


class TestShutdown:
    async def test_drains_all(self, engine: AsyncEngine) -> None:
        streams = [await engine.submit(request(f"r{i}")) for i in range(20)]
        await engine.shutdown(drain_s=30)
        reasons = [(await read(stream))[-1].finish_reason for stream in streams]
        assert reasons == [FinishReason.LENGTH] * 20
        with pytest.raises(EngineStopped):
            await engine.submit(request("late"))

    async def test_without_time_everybody_is_told(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        all_to_the_first(engine, monkeypatch)
        streams = [await engine.submit(request(f"r{i}", tokens=200)) for i in range(20)]
        await asyncio.sleep(0.01)
        await engine.shutdown(drain_s=0)
        reasons = [(await read(stream))[-1].finish_reason for stream in streams]
        assert reasons == [FinishReason.CANCELLED] * 20
