"""Whole requests of each family through the engine: every token is transformers' own greedy choice, whatever way it took."""

import asyncio
from pathlib import Path

import pytest
import torch

from inference_node.contract.messages import RejectCode
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.errors import SettingsRefused
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import load
from tests.support.engines import Answered, ask, running_engine
from tests.support.models import oracle_logits, save_tiny_model

OWN = ["gemma3", "gemma3-text", "glm", "glm4", "llama-gqa", "llama-rope-yarn", "mistral-window", "qwen2", "qwen3"]
FOREIGN = ["gpt_neox", "olmo3", "stablelm"]
FP32 = EngineSettings(precision=Precision.FP32, max_batched_tokens=64)


def prompt(number: int, length: int = 150) -> list[int]:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(number)).tolist()


def assert_greedy(folder: Path, asked: list[int], answer: Answered) -> None:
    """Each token is the likeliest after all before it."""
    tokens = [*asked, *answer.tokens]
    likeliest = oracle_logits(folder, tokens, torch.float32).argmax(-1).tolist()
    assert list(answer.tokens) == likeliest[len(asked) - 1 : -1]


async def ask_all(engine: AsyncEngine, asked: list[list[int]], name: str, num_tokens: int) -> list[Answered]:
    return await asyncio.gather(
        *(ask(engine, f"{name}{i}", p, max_tokens=num_tokens, ignore_eos=True) for i, p in enumerate(asked))
    )


@pytest.mark.parametrize("shape", OWN + FOREIGN)
async def test_every_way_gives_the_greedy_tokens_of_transformers(shape: str, tmp_path: Path) -> None:
    """In chunks of at most 64 tokens and alone; over a cached prefix; and among others that push one another out of the pool."""
    folder = save_tiny_model(tmp_path / "model", shape)
    async with running_engine(folder, tmp_path, FP32, max_model_len=256, kv_tokens=512) as engine:
        alone = await ask(engine, "alone", prompt(0), max_tokens=24, ignore_eos=True)
        assert_greedy(folder, prompt(0), alone)
        longer = [*prompt(0), *alone.tokens, *prompt(1, 20)]
        cached = await ask(engine, "cached", longer, max_tokens=10, ignore_eos=True)
        assert cached.last.num_cached_tokens >= 160
        assert_greedy(folder, longer, cached)
        asked = [prompt(i) for i in range(2, 6)]
        crowd = await ask_all(engine, asked, "crowd", 60)
        assert engine.stats().preemptions > 0
        for tokens, answer in zip(asked, crowd, strict=True):
            assert_greedy(folder, tokens, answer)


@pytest.mark.skipif(isinstance(load(), NativeUnavailable), reason=f"no native kernels here: {load()}")
@pytest.mark.parametrize("shape", ["glm-native", "glm4-native", "gemma3-native", "mistral-native-window"])
async def test_native_steps_answer_alike_whatever_way_it_took(shape: str, tmp_path: Path) -> None:
    """In int8 with narrow keys and values, over cached prefixes and through preemption: the tokens of each request alone."""
    folder, asked = save_tiny_model(tmp_path / "model", shape), [prompt(i) for i in range(4)]
    settings = EngineSettings(precision=Precision.INT8, kv_precision=KvPrecision.INT8, max_batched_tokens=64)
    async with running_engine(folder, tmp_path, settings, max_model_len=256, kv_tokens=512) as engine:
        alone = [await ask(engine, f"a{i}", p, max_tokens=60, ignore_eos=True) for i, p in enumerate(asked)]
        crowd = await ask_all(engine, asked, "crowd", 60)
        assert engine.stats().preemptions > 0
        assert [answer.tokens for answer in crowd] == [answer.tokens for answer in alone]
        pruned = engine.settings.replace(pruning_threshold=0.3, precision=Precision.INT4)
        await engine.apply(pruned, force=True)
        narrow = [await ask(engine, f"n{i}", p, max_tokens=20, ignore_eos=True) for i, p in enumerate(asked)]
        together = await ask_all(engine, asked, "together", 20)
        assert [answer.tokens for answer in together] == [answer.tokens for answer in narrow]


class TestForeign:
    async def test_batching_knobs_and_precision_are_turned_while_it_serves(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path / "model", "gpt_neox")
        asked = [prompt(i, 20 + 30 * i) for i in range(5)]
        async with running_engine(folder, tmp_path, FP32) as engine:
            alone = [await ask(engine, f"a{i}", p, max_tokens=24, ignore_eos=True) for i, p in enumerate(asked)]
            everybody = asyncio.create_task(ask_all(engine, asked, "b", 24))
            for turned in (
                {"max_batch_size": 2},
                {"max_batched_tokens": 128, "prefix_cache": False},
                {"max_batch_size": 4},
            ):
                await engine.apply(engine.settings.replace(**turned))
            assert [a.tokens for a in await everybody] == [a.tokens for a in alone]
            narrow = asyncio.create_task(ask_all(engine, asked, "c", 24))
            await engine.apply(engine.settings.replace(precision=Precision.BF16))
            assert all(len(answer.tokens) == 24 for answer in await narrow)
            await engine.apply(engine.settings.replace(precision=Precision.FP32))
            again = await ask_all(engine, asked, "d", 24)
            assert [a.tokens for a in again] == [a.tokens for a in alone]

    async def test_says_what_it_cannot_do(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path / "model", "stablelm")
        async with running_engine(folder, tmp_path, FP32) as engine:
            assert engine.capabilities.precisions == (Precision.FP32, Precision.BF16)
            for change in ({"precision": Precision.INT8}, {"pruning_threshold": 0.3}):
                with pytest.raises(SettingsRefused, match="transformers' own module runs this family") as refused:
                    await engine.apply(engine.settings.replace(**change))
                assert refused.value.code is RejectCode.NOT_SUPPORTED
