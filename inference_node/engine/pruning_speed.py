"""What pruning gains: steps of a pruned level timed in turn with unpruned ones of the same weights, beside the serving engine."""

import statistics
from collections.abc import Callable
from functools import partial

from inference_node.contract.quality import StepTimeRatio
from inference_node.engine.step_probe import ProbedStep, probe
from inference_node.model.gpu.store import GpuStore
from inference_node.model.runner import ModelRunner, Numerics, SideRunner

# From one stream, where every spared byte counts, to a batch whose rows want nearly all of them.
ROWS = (1, 4, 16, 32)
# What a request is taken to be: the shape of the benchmarks, as with precision=auto.
_PROMPT_TOKENS, _ANSWER_TOKENS, _CONTEXT = 128, 64, 128
_ROUNDS = 3
# All rounds of both forms: two seconds a turn at most, so that a small model gets through each step even on a busy machine.
_BUDGET_S = 6.0
# Blocks are handed out in turn from this much cache, more than one prompt or row needs.
_CACHE_TOKENS = 2048


def time_pruned_steps(
    runner: ModelRunner, numerics: Numerics, max_model_len: int, progress: Callable[[float], None] = lambda share: None
) -> tuple[StepTimeRatio, ...]:
    """Seconds of a pruned token over those of an unpruned one, its share of the prompt with it, by rows in the step.

    Some seconds on one thread, and as much again on a machine that is slow; the two forms take turns, so that what else the
    machine does slows both alike. Passes on what progress raises to give up. Empty for numerics that prune nothing, when
    there was no time for both, and on GPUs.
    """
    if numerics.pruner is None or isinstance(numerics.store, GpuStore):  # a device has no second lane beside what it serves
        return ()
    context = min(_CONTEXT, max_model_len // 2)
    prompt = ProbedStep(tokens=min(_PROMPT_TOKENS, max_model_len // 2))
    # Prefill first: it writes the cache that the decode rows read.
    steps = (prompt, *(ProbedStep(rows=rows, context=context) for rows in ROWS))
    blocks = -(-_CACHE_TOKENS // runner.kv.block_size)
    forms = [runner.beside(Numerics(numerics.store, None), blocks), runner.beside(numerics, blocks)]
    ratios: dict[int, list[float]] = {rows: [] for rows in ROWS}
    for turn in range(_ROUNDS):
        dense, pruned = (
            _seconds(form, steps, max_model_len, partial(_tell, progress, 2 * turn + place))
            for place, form in enumerate(forms)
        )
        for rows in ROWS:
            if {0, rows} <= dense.keys() & pruned.keys():
                ratios[rows].append(_token_s(pruned, rows) / _token_s(dense, rows))
    return tuple(StepTimeRatio(rows=rows, ratio=statistics.median(found)) for rows, found in ratios.items() if found)


def _tell(progress: Callable[[float], None], done: int, share: float) -> None:
    progress((done + share) / (2 * _ROUNDS))


def _seconds(
    form: SideRunner, steps: tuple[ProbedStep, ...], max_model_len: int, progress: Callable[[float], None]
) -> dict[int, float]:
    """Median seconds of a step by its decode rows; 0 rows are the prompt."""
    seen: dict[int, list[float]] = {}
    budget_s = _BUDGET_S / _ROUNDS / 2
    for step in probe(form, steps, max_model_len=max_model_len, progress=progress, budget_s=budget_s):
        seen.setdefault(step.shape.decode_rows, []).append(step.step_s)
    return {rows: statistics.median(found) for rows, found in seen.items()}


def _token_s(seconds: dict[int, float], rows: int) -> float:
    return seconds[rows] / rows + seconds[0] / _ANSWER_TOKENS
