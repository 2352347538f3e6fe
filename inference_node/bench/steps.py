"""`trimtab bench steps`: how long steps take at each precision and pruning level, as the node's own probe times them.

Made for simulations, which need steps that a short service does not happen to run: few rows and many, with and without prompts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference_node.bench.figures import machine, versions
from inference_node.config import NodeConfig
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic, StepProfile
from inference_node.engine.load import load_tokenizer
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.engine.step_fit import Measured
from inference_node.engine.step_probe import ProbedStep, StepBlocks, run_once
from inference_node.engine.step_track import StepTrack
from inference_node.model.backend import build, describe, supported_precisions
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.runner import ModelRunner, SideRunner
from inference_node.pruning.text import MOST_TOKENS, TEXT
from inference_node.quality.laboratory import REFERENCE

Progress = Callable[[str], None]
_BLOCK_SIZE, _CACHE_TOKENS, _LONGEST = 32, 2048, 1024
_CONTEXT = 160
# Edges of the table's cells, so that a step counts as what it is. Prefills first: they write cache that the decode rows read.
STEPS = (
    *(ProbedStep(tokens=tokens) for tokens in (64, 256, 512, 1024)),
    *(ProbedStep(rows=rows, context=_CONTEXT) for rows in (1, 2, 4, 8, 16, 32, 64)),
    *(ProbedStep(rows=rows, context=_CONTEXT, tokens=tokens) for rows in (4, 16, 64) for tokens in (128, 512)),
)


@dataclass(frozen=True, slots=True)
class StepsOptions:
    """levels: what to time. rounds: each step so often, the levels in turn, so that a machine that slows down slows all alike."""

    model: Path
    data_dir: Path
    levels: tuple[EngineSettings, ...]
    rounds: int = 4
    threads: int = 1
    limit_s: float = 200.0


def run(options: StepsOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """A `StepProfile` as plain values, with where it was taken. Ends after `limit_s` with the rounds that are whole by then.

    Raises NodeError: what is wrong with the model or the levels.
    """
    torch.set_num_threads(options.threads)
    config = NodeConfig(model=options.model, data_dir=options.data_dir, threads=options.threads)
    spec, checkpoint, tokenizer = describe(config.model), Checkpoint.open(config.model), load_tokenizer(config)
    capabilities = NodeCapabilities(
        precisions=supported_precisions(spec),
        max_batch_size=64,
        max_batched_tokens=_LONGEST,
        max_model_len=_LONGEST,
        kv_tokens=_CACHE_TOKENS,
    )
    tokens: list[int] = tokenizer(TEXT)["input_ids"]
    reconfigurer = Reconfigurer(
        checkpoint,
        spec,
        capabilities,
        calibration_dir=config.data_dir / "calibration",
        calibration_tokens=tokens[:MOST_TOKENS],
    )
    store = build(checkpoint, spec, REFERENCE)
    reconfigurer.adopt(store)
    runner = ModelRunner(spec, store, num_blocks=1, block_size=_BLOCK_SIZE, max_model_len=_LONGEST)
    sides = []
    for settings in options.levels:
        progress(f"{settings.precision.value}, pruned by {settings.pruning_threshold:g}: preparing")
        reconfigurer.check(settings)
        reconfigurer.prepare(settings, runner, REFERENCE, lambda: True)
        sides.append(runner.beside(reconfigurer.numerics(settings), _CACHE_TOKENS // _BLOCK_SIZE))
    tracks, rounds = _time(sides, options, progress)
    profile = StepProfile(cells=tuple(cell for track in tracks for cell in track.table()))
    return {
        "provenance": (
            f"trimtab bench steps: {config.model_name}, {options.threads} thread(s), each step {rounds} times, levels in turn; "
            f"rows with {_CONTEXT} tokens of context each"
        ),
        "machine": machine(),
        "versions": versions(),
        **profile.model_dump(mode="json"),
    }


def _time(sides: Sequence[SideRunner], options: StepsOptions, progress: Progress) -> tuple[list[StepTrack], int]:
    tracks = [StepTrack(StepArithmetic.of(settings)) for settings in options.levels]
    blocks = [StepBlocks(side) for side in sides]
    began, rounds = time.monotonic(), 0
    while rounds < options.rounds:
        for step in STEPS:
            for side, own, track in zip(sides, blocks, tracks, strict=True):
                if rounds == 0:
                    run_once(side, own.runs(step))  # the first run of a shape prepares its kernels
                measured = _one(side, own, step)
                track.learn(measured.shape, measured.step_s, judged=False)
        rounds += 1
        spent_s = time.monotonic() - began
        progress(f"round {rounds} of {options.rounds} after {spent_s:.0f} s")
        if spent_s * (rounds + 1) / rounds > options.limit_s:
            break
    return tracks, rounds


def _one(side: SideRunner, blocks: StepBlocks, step: ProbedStep) -> Measured:
    runs = blocks.runs(step)
    start = time.perf_counter()
    run_once(side, runs)
    return Measured(step.shape, time.perf_counter() - start)
