"""Whole requests through the engine: scheduler, runner and answers, as a node runs them, without HTTP."""

import itertools
import random
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

from inference_node.contract.settings import EngineSettings
from inference_node.engine.answer import Answer
from inference_node.engine.engine import Engine
from inference_node.engine.listener import SilentListener
from inference_node.engine.requests import EngineRequest, TokenDelta
from inference_node.engine.step_model import StepModel
from inference_node.model.gpu.runner import GpuRunner
from inference_node.model.gpu.shapes import EVERY_SHAPE
from inference_node.model.gpu.store import GpuStore
from inference_node.model.runner import Numerics
from inference_node.scheduling.sampling_params import SamplingParams

_BUDGET = 2048
# Prompts long enough that reading keys and values counts, of which 256 and their answers fit into the cache.
_LONG = 800


class NoText:
    """A decoder of texts that nobody reads."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return ""


def make_engine(runner: GpuRunner, store: GpuStore, batch: int = 256) -> Engine:
    settings = EngineSettings(
        precision=store.precision,
        max_batch_size=batch,
        max_batched_tokens=_BUDGET,
        prefix_cache=False,
        max_queue=10_000,
    )
    runner.switch(Numerics(store, None), [])
    return Engine(runner, settings, SilentListener(), StepModel(settings=settings))


def answers(engine: Engine, count: int, prompt: int, output: int, seed: int = 0) -> list[Answer]:
    """Added to the engine, all at once, with random prompts."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        request = EngineRequest(
            request_id=f"{seed}-{index}",
            prompt_token_ids=tuple(draw.randrange(engine.runner.spec.vocab_size) for _ in range(prompt)),
            sampling=SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True),
        )
        made.append(Answer(request, NoText(), eos=frozenset(), max_model_len=2048, arrived_s=time.monotonic()))
        engine.add(made[-1])
    return made


def drain(engine: Engine) -> tuple[int, list[tuple[float, list[TokenDelta]]]]:
    """(tokens, and each step's end with its deltas)."""
    tokens, steps = 0, []
    while engine.has_work:
        deltas = engine.step()
        tokens += sum(len(delta.token_ids) for delta in deltas)
        steps.append((time.perf_counter(), deltas))
    if engine.failed_steps:
        raise RuntimeError(engine.last_error)
    return tokens, steps


def run(report: Any, runner: GpuRunner, store: GpuStore) -> None:
    name = store.precision.value
    began = time.perf_counter()
    runner.warm(store)
    report.add(what="captured", format=name, graphs=len(EVERY_SHAPE), seconds=round(time.perf_counter() - began, 2))
    first_token(report, runner, store)
    for count in (32, 256):
        idle(report, runner, store, count)
    end_to_end(report, runner, store, 256, 128, 128)
    ragged(report, runner, store)


def first_token(report: Any, runner: GpuRunner, store: GpuStore) -> None:
    """Time to the first token of a prompt of 256 tokens, an idle engine."""
    engine = make_engine(runner, store)
    taken = []
    for seed in range(12):
        began = time.perf_counter()
        answers(engine, 1, 256, 2, seed=seed)
        engine.step()
        taken.append(time.perf_counter() - began)
        drain(engine)
    report.add(what="ttft", format=store.precision.value, prompt=256, ms=round(statistics.median(taken[2:]) * 1e3, 2))


def idle(report: Any, runner: GpuRunner, store: GpuStore, rows: int) -> None:
    """How long the device waits between steps: time of a step in the engine against that of its graph alone."""
    engine = make_engine(runner, store)
    answers(engine, rows, _LONG, 175, seed=7)
    _, steps = drain(engine)
    # Steps in the middle, when all run; from the end of one to the end of the next.
    full = [when for when, deltas in steps if len(deltas) == rows]
    # What the steps in the middle attended to.
    context = _LONG + 175 - len(full) // 2
    gaps = [after - before for before, after in itertools.pairwise(full[6:-3])]
    from inference_node.bench.gpu.steps import Bench  # noqa: PLC0415

    alone = Bench(runner, 1.0).decode("alone", store, rows, context).step_s
    step = statistics.median(gaps)
    report.add(
        what="idle", format=store.precision.value, rows=rows, engine_ms=round(step * 1e3, 3), graph_ms=round(alone * 1e3, 3),
        idle_share=round(max(0.0, 1 - alone / step), 4), p99_ms=round(sorted(gaps)[int(0.99 * len(gaps))] * 1e3, 3),
    )  # fmt: skip


def end_to_end(report: Any, runner: GpuRunner, store: GpuStore, count: int, prompt: int, output: int) -> None:
    taken = []
    for seed in range(3):
        engine = make_engine(runner, store)
        runner.rows_ahead = runner.rows_hit = 0
        began = time.perf_counter()
        answers(engine, count, prompt, output, seed=seed)
        tokens, _ = drain(engine)
        taken.append((time.perf_counter() - began, tokens))
    seconds, tokens = min(taken)
    report.add(
        what="end_to_end", format=store.precision.value, requests=count, prompt=prompt, output=output, tokens=tokens,
        seconds=round(seconds, 3), tokens_per_s=round(tokens / seconds),
        of_use=round(runner.rows_hit / max(1, runner.rows_ahead), 4),
    )  # fmt: skip


def ragged(report: Any, runner: GpuRunner, store: GpuStore) -> None:
    """Answers of many lengths, so that the batch changes at nearly every step."""
    engine = make_engine(runner, store, batch=128)
    draw = random.Random(1)
    began = time.perf_counter()
    for index in range(384):
        answers(engine, 1, draw.randrange(20, 400), draw.randrange(10, 200), seed=1000 + index)
    runner.rows_ahead = runner.rows_hit = 0
    tokens, _ = drain(engine)
    seconds = time.perf_counter() - began
    report.add(
        what="ragged", format=store.precision.value, requests=384, tokens=tokens, seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds), of_use=round(runner.rows_hit / max(1, runner.rows_ahead), 4),
        threads=threading.active_count(),
    )  # fmt: skip
