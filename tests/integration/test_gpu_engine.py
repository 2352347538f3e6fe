"""The whole engine on a GPU: answers as transformers gives them, in any batch, and through changes of every knob."""

import asyncio
import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_node.contract.settings import EngineSettings, KvPrecision, Precision
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.errors import SettingsRefused
from inference_node.model import device
from inference_node.model.backend import build, describe
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.forward import TokenRun
from inference_node.model.gpu.store import GpuStore
from inference_node.model.runner import Numerics
from inference_node.model.runners import make_runner
from tests.support.engines import Answered, ask, running_engine
from tests.support.models import oracle_logits, save_tiny_model

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("triton") is None, reason="needs a GPU and Triton"
)
BF16 = EngineSettings(precision=Precision.BF16, max_batch_size=16)
FAMILIES = ["llama-gqa", "llama-rope-llama3", "mistral-window", "qwen2", "qwen3", "glm", "glm4", "gemma3-text"]


def prompt(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(256) for _ in range(length)]


def shortfall(folder: Path, asked: list[int], answer: Answered) -> float:
    """How far the least likely token's logit is below the largest, in units of what bf16 costs transformers itself.

    By transformers' arithmetic in fp32: 0 where every token is its choice.
    """
    tokens = [*asked, *answer.tokens]
    logits, rounded = (
        oracle_logits(folder, tokens, dtype)[len(asked) - 1 : -1] for dtype in (torch.float32, torch.bfloat16)
    )
    chosen = logits.gather(1, torch.tensor(answer.tokens).unsqueeze(1)).squeeze(1)
    return float((logits.amax(1) - chosen).max() / (rounded.float() - logits).abs().max())


@pytest.mark.parametrize("shape", FAMILIES)
async def test_answers_are_those_of_transformers(tmp_path: Path, shape: str) -> None:
    folder = save_tiny_model(tmp_path / "model", shape, dtype=torch.bfloat16)
    async with running_engine(folder, tmp_path, BF16) as engine:
        assert engine.hardware.device != "cpu"
        asked = [prompt(seed, length) for seed, length in enumerate((5, 40, 90, 17))]
        answers = await asyncio.gather(
            *(ask(engine, str(i), tokens, max_tokens=24, ignore_eos=True) for i, tokens in enumerate(asked))
        )
    for tokens, answer in zip(asked, answers, strict=True):
        assert len(answer.tokens) == 24
        # The difference of two logits, each off by as much as theirs.
        assert shortfall(folder, tokens, answer) <= 2.0


async def test_sampled_and_greedy_requests_share_a_batch(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", dtype=torch.bfloat16)
    async with running_engine(folder, tmp_path, BF16) as engine:
        drawn = {"max_tokens": 12, "temperature": 1.0, "seed": 7, "ignore_eos": True}
        alone = await ask(engine, "alone", prompt(1, 20), **drawn)
        again, greedy, scored = await asyncio.gather(
            ask(engine, "again", prompt(1, 20), **drawn),
            ask(engine, "greedy", prompt(2, 30), max_tokens=20, ignore_eos=True),
            ask(engine, "scored", prompt(3, 10), max_tokens=5, logprobs=3, ignore_eos=True),
        )
    assert len(alone.tokens) == len(again.tokens) == 12
    assert shortfall(folder, prompt(2, 30), greedy) <= 2.0
    assert all(delta.logprobs for delta in scored.deltas if delta.token_ids)


async def test_no_answer_suffers_from_changes_of_every_knob(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", dtype=torch.bfloat16)
    changes: list[dict[str, Any]] = [
        {"precision": "int8"},
        {"precision": "int4"},
        {"pruning_threshold": 0.3},
        {"max_batch_size": 2},
        {"kv_precision": "fp8"},
        {"precision": "fp8"},
        {"kv_precision": "model", "precision": "int8"},
        {"kv_precision": "fp8", "precision": "fp8"},
        {"max_batch_size": 12, "pruning_threshold": 0.0},
        {"precision": "bf16", "max_batched_tokens": 128},
        {"kv_precision": "model"},
    ]
    async with running_engine(folder, tmp_path, BF16, max_model_len=512) as engine:
        before = await ask(engine, "before", prompt(0, 30), max_tokens=20, ignore_eos=True)
        asked = [asyncio.create_task(_one(engine, number)) for number in range(12)]
        settings = BF16
        for change in changes:
            settings = settings.replace(**change)
            applied = await engine.apply(settings, force=True)
            assert applied.settings == settings
            await asyncio.sleep(0)
        answers = await asyncio.gather(*asked)
        after = await ask(engine, "after", prompt(0, 30), max_tokens=20, ignore_eos=True)
    assert [len(answer.tokens) for answer in answers] == [200] * 12
    assert after.tokens == before.tokens


def test_steps_are_captured_again_after_all_captured_ones_went(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", dtype=torch.bfloat16)
    device.use(device.find_gpu())
    spec = describe(folder)
    store = build(Checkpoint.open(folder), spec, Precision.BF16)
    runner = make_runner(spec, store, num_blocks=16, block_size=16, max_model_len=128)
    assert isinstance(store, GpuStore)
    run = TokenRun(prompt(1, 20), 0, [3, 4], samples=True)
    before = runner.logits([run])
    # Keys and values of another format: no graph of the old addresses may live on.
    for kv in (KvPrecision.FP8, KvPrecision.MODEL):
        runner.switch(Numerics(store, None, kv), [])
        found = runner.logits([run])
    assert torch.equal(found, before)


async def test_narrow_keys_and_values_are_judged_and_come_into_force_under_running_requests(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", dtype=torch.bfloat16)
    async with running_engine(folder, tmp_path, BF16, max_model_len=512) as engine:
        assert engine.capabilities.kv_precisions == (KvPrecision.MODEL, KvPrecision.FP8)
        asked = [asyncio.create_task(_one(engine, number)) for number in range(6)]
        await asyncio.sleep(0.2)
        # No force: the guard measures them first. A random model's answers are all alike, so that they pass.
        applied = await engine.apply(BF16.replace(kv_precision=KvPrecision.FP8))
        assert applied.settings.kv_precision is KvPrecision.FP8
        record = next(each for each in engine.quality().records if each.kv_precision is KvPrecision.FP8)
        assert record.kl_mean < 0.01
        with pytest.raises(SettingsRefused, match="fp8"):
            await engine.apply(BF16.replace(kv_precision=KvPrecision.INT8))
        answers = await asyncio.gather(*asked)
        alone = await ask(engine, "alone", prompt(3, 31), max_tokens=24, ignore_eos=True)
    assert [len(answer.tokens) for answer in answers] == [200] * 6
    # What e4m3 rounds away costs a few times what bf16 does.
    assert shortfall(folder, prompt(3, 31), alone) <= 12.0


def test_what_is_cached_survives_both_conversions(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", dtype=torch.bfloat16)
    device.use(device.find_gpu())
    spec = describe(folder)
    store = build(Checkpoint.open(folder), spec, Precision.BF16)
    runner = make_runner(spec, store, num_blocks=16, block_size=16, max_model_len=128)
    assert isinstance(store, GpuStore)
    text = prompt(1, 41)
    whole = runner.logits([TokenRun(text, 0, [3, 4, 9], samples=True)])
    assert not runner.ready_for(store, KvPrecision.FP8)
    assert runner.room_for(KvPrecision.FP8) > 0
    runner.begin(store, KvPrecision.FP8)
    assert runner.ready_for(store, KvPrecision.FP8)
    assert runner.room_for(KvPrecision.FP8) == 0
    last = TokenRun(text[40:], 40, [3, 4, 9], samples=True)
    for kv in (KvPrecision.FP8, KvPrecision.MODEL):
        assert runner.switch(Numerics(store, None, kv), [3, 4, 9])
        found = runner.logits([last])
        assert float((found - whole).abs().max() / whole.abs().max()) < 0.1
    # Blocks that were not named are empty: the answer is another one.
    runner.switch(Numerics(store, None, KvPrecision.FP8), [3])
    assert float((runner.logits([last]) - whole).abs().max() / whole.abs().max()) > 0.1


async def _one(engine: AsyncEngine, number: int) -> Answered:
    return await ask(engine, f"load-{number}", prompt(number, 10 + 7 * number), max_tokens=200, ignore_eos=True)
