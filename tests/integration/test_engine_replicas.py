"""Two replicas of the real model in one process: the answers that one gives, one copy of the weights, changes under load."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import EngineSettings
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.cpu import usable_cpus
from inference_node.engine.requests import FinishReason
from tests.support.engines import Answered, ask, running_engine
from tests.support.measured import share
from tests.support.models import demo_model, save_tiny_model

needs_cores = pytest.mark.skipif(len(usable_cpus()) < 2, reason="two replicas need two cores")
TOPICS = ("The sea", "A good bridge", "Iron", "The oldest city", "Music", "A prime number", "Rain", "The moon")


async def ask_all(engine: AsyncEngine, asked: Sequence[Sequence[int]], name: str) -> list[Answered]:
    sampling = {"max_tokens": 24, "ignore_eos": True}
    return list(await asyncio.gather(*(ask(engine, f"{name}-{i}", p, **sampling) for i, p in enumerate(asked))))


@pytest.mark.model
@needs_cores
class TestDemoModel:
    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    async def test_two_answer_as_one_does(self, precision: str, tmp_path: Path, measured: Path) -> None:
        """Whoever serves a request, however it came there: the tokens are those of an engine of one replica."""
        folder, settings = demo_model(), EngineSettings(precision=precision, max_batch_size=3)
        data_dir = share(measured, tmp_path)
        async with running_engine(folder, data_dir, settings, max_model_len=256, kv_tokens=4096) as engine:
            asked = [engine.tokenizer(f"{topic} is")["input_ids"] * 3 for topic in TOPICS] * 2
            expected = [answer.tokens for answer in await ask_all(engine, asked, "one")]
        async with running_engine(
            folder, data_dir, settings, replicas=2, threads=2, max_model_len=256, kv_tokens=4096
        ) as engine:
            answers = await ask_all(engine, asked, "two")
            stats = engine.stats()
            assert len(stats.replicas) == 2 and all(one.steps > 0 and one.threads == 1 for one in stats.replicas)
            assert all(one.is_bound and len(one.cpus) == 1 for one in stats.replicas)
            assert stats.replicas[0].cpus != stats.replicas[1].cpus
            assert (stats.blocks_used, stats.blocks_total) == (0, 4096 // 32)
            stores = [each.runner.numerics.store for each in engine._loaded.engines]
            assert len({placed.numa_node for placed in engine._loaded.placements}) > 1 or stores[0] is stores[1]
        assert [answer.tokens for answer in answers] == expected

    async def test_every_knob_is_turned_on_both_and_no_token_is_lost(self, tmp_path: Path, measured: Path) -> None:
        settings, data_dir = EngineSettings(max_batch_size=2, max_queue=100), share(measured, tmp_path)
        async with running_engine(
            demo_model(), data_dir, settings, replicas=2, threads=2, max_model_len=256, kv_tokens=4096
        ) as engine:
            asked = [engine.tokenizer(f"{topic} is")["input_ids"] * 3 for topic in TOPICS] * 2
            everybody = asyncio.create_task(ask_all(engine, asked, "r"))
            turns = (
                {"precision": "int8", "max_batch_size": 3},
                {"pruning_threshold": 0.25, "max_batched_tokens": 64},
                {"kv_precision": "int8", "scheduling_policy": "prefix"},
                {"precision": "bf16", "pruning_threshold": 0.0, "kv_precision": "model", "prefix_cache": False},
                {"precision": "int4", "max_batch_size": 1},
            )
            for turned in turns:
                wanted = engine.settings.replace(**turned)
                applied = await engine.apply(wanted, force=True)
                assert applied.settings == engine.settings == wanted
                assert [each.settings for each in engine._loaded.engines] == [wanted] * 2
            for answer in await everybody:
                assert len(answer.tokens) == 24 and answer.last.finish_reason is FinishReason.LENGTH
            assert engine.stats().blocks_used == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"replicas": 4096}, "NODE_REPLICAS=4096: each needs a core of its own"),
        ({"replicas": 2, "kv_tokens": 600}, "one of 2 replicas"),
    ],
)
@needs_cores
def test_what_does_not_fit_is_refused_with_the_reason(options: dict[str, int], why: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = save_tiny_model(tmp_path / "model")
    config = NodeConfig(model=model, data_dir=tmp_path, max_model_len=512, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigInvalid, match=why):
        AsyncEngine.load(config)
