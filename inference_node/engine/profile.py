"""How long steps take here: a few cells probed at start, and every cell refined by the steps that are served."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from inference_node.contract.messages import StepProfile, StepSample
from inference_node.contract.settings import Precision
from inference_node.model.forward import TokenRun
from inference_node.model.runner import ModelRunner

DECODE_ROWS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PREFILL_TOKENS = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
PROBED_DECODE = (1, 4, 8, 16, 32)
PROBED_PREFILL = (64, 256, 512)
# Context that probed rows attend to: a short chat.
_CONTEXT = 128
_KEPT = 32
_REPEATS = 3


class StepTimes:
    """Medians of the last steps of each cell. A step counts for the smallest cell it fits in. Thread-safe."""

    def __init__(self) -> None:
        self._cells: dict[tuple[Precision, int, int], deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, precision: Precision, decode_rows: int, prefill_tokens: int, step_s: float) -> None:
        if step_s <= 0:
            return
        key = (precision, _ceiling(DECODE_ROWS, decode_rows), _ceiling(PREFILL_TOKENS, prefill_tokens))
        with self._lock:
            self._cells.setdefault(key, deque(maxlen=_KEPT)).append(step_s)

    def snapshot(self) -> StepProfile:
        with self._lock:
            cells = {key: tuple(times) for key, times in self._cells.items()}
        return StepProfile(
            cells=tuple(
                StepSample(
                    precision=precision,
                    decode_rows=rows,
                    prefill_tokens=tokens,
                    step_s=statistics.median(times),
                    samples=len(times),
                )
                for (precision, rows, tokens), times in sorted(cells.items())
            )
        )


def probe(
    runner: ModelRunner,
    times: StepTimes,
    *,
    max_model_len: int,
    progress: Callable[[float], None],
    budget_s: float = 3.0,
) -> None:
    """Runs steps on made-up tokens, before any request is there. Warms the kernels up on the way; stops after about budget_s."""
    precision = runner.numerics.store.precision
    began = time.perf_counter()
    cells = [(rows, 0) for rows in PROBED_DECODE] + [(0, tokens) for tokens in PROBED_PREFILL]
    for done, (rows, tokens) in enumerate(cells):
        progress(done / len(cells))
        runs = _runs(runner, rows, tokens, max_model_len)
        if not runs:
            continue
        for repeat in range(1 + _REPEATS):
            start = time.perf_counter()
            runner.logits(runs)
            if repeat:  # the first one pays for kernels that were never run at this size
                times.add(precision, rows, tokens, time.perf_counter() - start)
            if time.perf_counter() - began > budget_s and repeat:
                break
        if time.perf_counter() - began > 2 * budget_s:
            break


def _runs(runner: ModelRunner, rows: int, tokens: int, max_model_len: int) -> list[TokenRun]:
    size = runner.kv.block_size
    if tokens:
        blocks = -(-tokens // size)
        fits = tokens <= max_model_len and blocks <= runner.kv.num_blocks
        return [TokenRun([0] * tokens, 0, range(blocks), samples=True)] if fits else []
    context = min(_CONTEXT, max_model_len - 1)
    blocks = -(-(context + 1) // size)
    if rows * blocks > runner.kv.num_blocks:
        return []
    return [TokenRun([0], context, range(row * blocks, (row + 1) * blocks), samples=True) for row in range(rows)]


def _ceiling(edges: Sequence[int], value: int) -> int:
    return next((edge for edge in edges if value <= edge), edges[-1])
