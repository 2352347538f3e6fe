"""Sequences and a scheduler run without a model: each sampled token is a number that tells its place."""

from inference_node.contract.settings import EngineSettings
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.predictor import StepPredictor
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.scheduling.scheduler import Scheduler
from inference_node.scheduling.sequence import FinishReason, Sequence

NUMERICS = "bf16|model|0.0"


def make_sequence(
    name: str = "a", prompt: int | list[int] = 4, answer: int = 4, arrived_s: float = 0.0, priority: int = 0
) -> Sequence:
    """A sequence that wants `answer` tokens; a prompt given as a number holds distinct tokens of its own."""
    tokens = prompt if isinstance(prompt, list) else [hash((name, i)) % 50_000 for i in range(prompt)]
    return Sequence(
        request_id=name,
        tokens=list(tokens),
        num_prompt_tokens=len(tokens),
        sampling=SamplingParams(max_tokens=answer, temperature=0.0),
        arrived_s=arrived_s,
        priority=priority,
    )


def make_scheduler(
    num_blocks: int = 64,
    block_size: int = 4,
    predictor: StepPredictor | None = None,
    **knobs: bool | int | float | str,
) -> Scheduler:
    settings = EngineSettings().replace(**({"max_batched_tokens": 64} | knobs))
    return Scheduler(BlockManager(num_blocks, block_size), settings, NUMERICS, predictor)


def run_step(scheduler: Scheduler, now: float = 0.0) -> ScheduledBatch:
    """Schedules and completes one step, appends a token to each row that samples, finishes those that have enough."""
    batch = scheduler.schedule(now)
    scheduler.complete(batch)
    for row in batch.rows:
        if row.samples:
            row.sequence.tokens.append(row.sequence.num_generated)
            if row.sequence.num_generated >= row.sequence.sampling.max_tokens:
                scheduler.finish(row.sequence, FinishReason.LENGTH)
    return batch
