"""`python -m inference_node.bench.gpu.table --out FILE`: a step table of 27 billion random weights in bf16 and e4m3, for replays.

Steps carry what a step of the engine does: rows alone, a prompt alone, and rows with as much of a prompt as a token budget has
room for beside them.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import torch

from inference_node.bench.gpu.random_model import CONFIG, random_store
from inference_node.bench.gpu.steps import Bench
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepSample
from inference_node.model.gpu.runner import GpuRunner
from inference_node.model.gpu.shapes import Run
from inference_node.model.gpu.store import GpuStore, convert
from inference_node.model.spec import ModelSpec

# Llama 3 70B's layers, as many of them as leave room for both formats and a cache on one card.
_SHAPE = {
    "num_hidden_layers": 30,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
}
_CONTEXT, _BLOCKS, _BLOCK = 512, 6000, 32
_WARM, _TIMED = 4, 20
_ROWS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256)
_PROMPTS = (64, 128, 256, 512, 1024, 2048)
_BUDGETS, _BESIDE = (256, 512, 1024, 2048), (8, 64, 128, 192, 248)
_STEPS = (
    *((0, tokens) for tokens in _PROMPTS),
    *((rows, 0) for rows in _ROWS),
    *((rows, budget - rows) for rows in _BESIDE for budget in _BUDGETS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    spec = ModelSpec.from_config({**CONFIG, **_SHAPE})
    exact = random_store(spec)
    narrow = convert(exact, Precision.FP8)
    bench = Bench(GpuRunner(spec, exact, num_blocks=_BLOCKS, block_size=_BLOCK, max_model_len=2048), 1e12)
    bench.fill()
    cells = [
        sample(bench, store, precision, rows, tokens)
        for precision, store in ((Precision.BF16, exact), (Precision.FP8, narrow))
        for rows, tokens in _STEPS
    ]
    card = torch.cuda.get_device_name()
    document = {
        "provenance": f"inference_node.bench.gpu.table on {card}, torch {torch.__version__}",
        "cells": [cell.model_dump(mode="json") for cell in cells],
    }
    out.write_text(json.dumps(document, indent=1) + "\n")


def sample(bench: Bench, store: GpuStore, precision: Precision, rows: int, tokens: int) -> StepSample:
    """One cell: the captured step replayed, each time by itself."""
    runs = bench.runs(rows, _CONTEXT - 1) if rows else []
    if tokens:
        blocks = list(range(_BLOCKS))[-math.ceil(tokens / _BLOCK) :]
        bench.runner.pool.tables.write(rows, blocks)
        runs = [*runs, Run([7] * tokens, 0, rows, samples=True)]
    graph = bench.graph(store, runs)
    taken = []
    for _ in range(_WARM + _TIMED):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        graph.replay()
        ended.record()
        torch.cuda.synchronize()
        taken.append(began.elapsed_time(ended) / 1e3)
    counted = sorted(taken[_WARM:])
    return StepSample(
        precision=precision,
        decode_rows=rows,
        prefill_tokens=tokens,
        context_tokens=rows * _CONTEXT,
        step_s=statistics.median(counted),
        p95_s=counted[int(0.95 * len(counted)) - 1],
        ewma_s=statistics.fmean(counted),
        samples=len(counted),
    )


if __name__ == "__main__":
    main()
