"""An engine whose model is a clock: it samples at once (or after a set time that holds no lock); only our own work shows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from inference_node.config import NodeConfig
from inference_node.contract.messages import NodeCapabilities, NodeHardware
from inference_node.contract.settings import EngineSettings
from inference_node.engine.async_engine import AsyncEngine
from inference_node.engine.engine import Engine
from inference_node.engine.listener import EngineListener, SilentListener
from inference_node.engine.load import Loaded
from inference_node.engine.placement import Placement
from inference_node.engine.step_counter import StepCounter
from inference_node.engine.step_learner import StepLearner
from inference_node.engine.step_model import StepModel
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.model.sampler import SampledToken
from inference_node.quality.ceiling import Ceiling, Judgement, Standing
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.sequence import Sequence as Tokens


@dataclass(frozen=True, slots=True)
class _Shape:
    num_blocks: int
    block_size: int


class ClockRunner:
    """Stands where `ModelRunner` does. A row's next token is `next_token(number of tokens so far)`.

    `step_s` is what a step takes, slept, which lets other threads run as a kernel does.
    """

    pruned_ratio = 0.0
    tokens_ahead = 0

    def __init__(
        self, next_token: Callable[[int], int], *, num_blocks: int = 4096, block_size: int = 16, step_s: float = 0.0
    ) -> None:
        self.kv = _Shape(num_blocks, block_size)
        self.step_s = step_s
        self._next_token = next_token

    def switch(self, numerics: Numerics, used_blocks: list[int]) -> bool:
        return False

    def run(self, batch: ScheduledBatch, seeds: Sequence[int]) -> list[tuple[Tokens, SampledToken]]:
        if self.step_s:
            time.sleep(self.step_s)
        return [
            (row.sequence, SampledToken(self._next_token(row.sequence.num_tokens))) for row in batch.rows if row.samples
        ]


class _NothingToPrepare:
    """Stands where `Reconfigurer` does: every setting is ready."""

    def check(self, settings: EngineSettings) -> None: ...

    def is_ready(self, settings: EngineSettings, runner: object) -> bool:
        return True

    def numerics(self, settings: EngineSettings, memory: int = 0) -> Numerics:
        return cast(Numerics, None)


class _NothingToJudge:
    """Stands where `QualityGuard` does: every setting is at full precision."""

    ceiling = Ceiling(max_perplexity_ratio=1.0, max_kl=1.0)
    records = ()

    def admits(self, settings: EngineSettings) -> bool:
        return True

    def judge(self, settings: EngineSettings) -> Judgement:
        return Judgement(Standing.FULL)


def make_engine(
    runner: ClockRunner, settings: EngineSettings | None = None, listener: EngineListener | None = None
) -> Engine:
    return Engine(cast(ModelRunner, runner), settings or EngineSettings(), listener or SilentListener(), StepModel())


def make_engines(
    runner: ClockRunner, count: int, settings: EngineSettings | None = None, listener: EngineListener | None = None
) -> tuple[Engine, ...]:
    """Replicas that share the runner, which has no state, the step model and the count of steps, as those of a node do."""
    hearing, times, steps = listener or SilentListener(), StepModel(), StepCounter()
    given = settings or EngineSettings()
    return tuple(Engine(cast(ModelRunner, runner), given, hearing, times, steps=steps) for _ in range(count))


def make_async_engine(
    config: NodeConfig,
    tokenizer: Any,
    runner: ClockRunner,
    settings: EngineSettings | None = None,
    listener: EngineListener | None = None,
    replicas: int = 1,
) -> AsyncEngine:
    """Not started. `config.max_model_len` is the longest prompt plus answer."""
    hearing = listener or SilentListener()
    engines = make_engines(runner, replicas, settings, hearing)
    loaded = Loaded(
        engines=engines,
        reconfigurer=cast(Any, _NothingToPrepare()),
        tokenizer=tokenizer,
        spec=cast(Any, SimpleNamespace(eos_token_ids=frozenset[int](), vocab_size=len(tokenizer))),
        capabilities=NodeCapabilities(
            precisions=("bf16",),
            max_batch_size=512,
            max_batched_tokens=8192,
            max_model_len=config.max_model_len,
            kv_tokens=replicas * runner.kv.num_blocks * runner.kv.block_size,
        ),
        hardware=NodeHardware(device="cpu", cpu_cores=2, threads=1, memory_bytes=1 << 30),
        placements=(Placement(1),) * replicas,
        learner=StepLearner(engines[0]._times, config.data_dir / "step_times"),
        guard=cast(Any, _NothingToJudge()),
    )
    return AsyncEngine(config, loaded, hearing)
