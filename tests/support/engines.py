"""Engines without server: a model's runner for single forwards, and an AsyncEngine for whole requests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference_node.config import NodeConfig
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.listener import EngineListener
from inference_node.engine.requests import EngineRequest, TokenDelta
from inference_node.model.backend import build, describe
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.forward import TokenRun
from inference_node.model.runner import ModelRunner
from inference_node.scheduling.sampling_params import SamplingParams


def make_runner(folder: Path, precision: Precision, num_blocks: int = 64, block_size: int = 16) -> ModelRunner:
    """A runner of one precision, on as many threads as torch is set to."""
    spec = describe(folder)
    store = build(Checkpoint.open(folder), spec, precision)
    return ModelRunner(spec, store, num_blocks=num_blocks, block_size=block_size, max_model_len=num_blocks * block_size)


def logits_in_chunks(
    runner: ModelRunner, tokens: Sequence[int], chunks: Sequence[int], blocks: Sequence[int]
) -> Tensor:
    """Logits of the last token of each chunk, [len(chunks), V]; the chunks follow one another."""
    assert sum(chunks) == len(tokens)
    rows: list[Tensor] = []
    start = 0
    for count in chunks:
        rows.append(runner.logits([TokenRun(tokens[start : start + count], start, blocks, samples=True)]))
        start += count
    return torch.cat(rows)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request from its first delta to its last."""

    tokens: tuple[int, ...]
    text: str
    deltas: tuple[TokenDelta, ...]

    @property
    def last(self) -> TokenDelta:
        return self.deltas[-1]


@asynccontextmanager
async def running_engine(
    folder: Path,
    data_dir: Path,
    settings: EngineSettings | None = None,
    *,
    listener: EngineListener | None = None,
    threads: int = 1,
    max_model_len: int = 512,
    kv_tokens: int = 8192,
    replicas: int = 1,
    **ceiling: float,
) -> AsyncIterator[AsyncEngine]:
    """An engine that is loaded and started, and shut down at the end. ceiling: of quality, by NodeConfig's names."""
    config = NodeConfig(
        model=folder,
        data_dir=data_dir,
        threads=threads,
        max_model_len=max_model_len,
        kv_tokens=kv_tokens,
        replicas=replicas,
        **ceiling,  # type: ignore[arg-type]  # test shorthand
    )
    engine = AsyncEngine.load(config, settings or EngineSettings(), listener=listener)
    engine.start()
    try:
        yield engine
    finally:
        await engine.shutdown(drain_s=0)


async def ask(engine: AsyncEngine, request_id: str, prompt: Sequence[int], **sampling: object) -> Answered:
    """Submits a request, greedy unless told otherwise, and reads it to its end."""
    params = SamplingParams(**({"temperature": 0.0} | sampling))  # type: ignore[arg-type]  # test shorthand
    stream = await engine.submit(EngineRequest(request_id, tuple(prompt), params))
    deltas = [delta async for delta in stream]
    return Answered(
        tokens=tuple(token for delta in deltas for token in delta.token_ids),
        text="".join(delta.text for delta in deltas),
        deltas=tuple(deltas),
    )
