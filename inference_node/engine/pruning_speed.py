"""What pruning gains: steps of a pruned level timed in turn with unpruned ones of the same weights, beside the serving engine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from inference_node.contract.quality import StepTimeRatio
from inference_node.engine.step_probe import ProbedStep, StepBlocks, run_once
from inference_node.model.native_weights import NativeStore
from inference_node.model.runner import ModelRunner, Numerics, SideRunner

# From one stream, where every spared byte counts, to a batch whose rows together want nearly all of them.
ROWS = (1, 2, 4, 8, 32)
# What a request is taken to be: the shape of the benchmarks, as with precision=auto.
_PROMPT_TOKENS, _ANSWER_TOKENS, _CONTEXT = 128, 64, 128
_WARM_TURNS, _TURNS = 1, 5
# Blocks are handed out in turn from this much cache, more than one prompt or row needs.
_CACHE_TOKENS = 2048


def time_pruned_steps(
    runner: ModelRunner, numerics: Numerics, max_model_len: int, progress: Callable[[float], None] = lambda share: None
) -> tuple[StepTimeRatio, ...]:
    """Time of a pruned token over that of an unpruned one, its share of the prompt with it, by rows in the step.

    Some seconds on one thread. The forms take turns step by step, and what counts is the time that the processor spent on them:
    beside an engine that serves, the clock on the wall tells more of the engine than of the step. Passes on what progress
    raises to give up. Empty for numerics that prune nothing, and where no kernel spares what was cut (plain torch), or runs
    elsewhere than on the calling thread (GPUs).
    """
    if numerics.pruner is None or not isinstance(numerics.store, NativeStore):
        return ()
    longest = min(max_model_len, _CACHE_TOKENS)
    prompt = ProbedStep(tokens=min(_PROMPT_TOKENS, longest // 2))
    # Prefill first: it writes cache that the decode rows read.
    steps = (prompt, *(ProbedStep(rows=rows, context=min(_CONTEXT, longest // 2)) for rows in ROWS))
    num_blocks = -(-_CACHE_TOKENS // runner.kv.block_size)
    dense, pruned = (_Form(runner.beside(each, num_blocks)) for each in (replace(numerics, pruner=None), numerics))
    for turn in range(_WARM_TURNS + _TURNS):
        order = (dense, pruned) if turn % 2 else (pruned, dense)
        for place, step in enumerate(steps):
            progress((turn + place / len(steps)) / (_WARM_TURNS + _TURNS))
            for form in order:
                form.run(step, counts=turn >= _WARM_TURNS)
    return tuple(
        StepTimeRatio(rows=step.rows, ratio=pruned.token_s(step, prompt) / dense.token_s(step, prompt))
        for step in steps
        if step.rows
    )


class _Form:
    """The weights with or without pruning, and the processor time of its steps."""

    def __init__(self, runner: SideRunner) -> None:
        self._runner, self._blocks = runner, StepBlocks(runner)
        self._seen: dict[ProbedStep, list[float]] = {}

    def run(self, step: ProbedStep, *, counts: bool) -> None:
        runs = self._blocks.runs(step)
        began = time.thread_time()
        run_once(self._runner, runs)
        if counts:
            self._seen.setdefault(step, []).append(time.thread_time() - began)

    def token_s(self, step: ProbedStep, prompt: ProbedStep) -> float:
        """Seconds of one row's token, with its share of the prompt's."""
        return statistics.median(self._seen[step]) / step.rows + statistics.median(self._seen[prompt]) / _ANSWER_TOKENS
