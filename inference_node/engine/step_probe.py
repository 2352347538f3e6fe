"""Times a few made-up steps before any request is there: the first prediction and the first decision rest on them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from inference_node.contract.step_profile import StepShape
from inference_node.engine.step_fit import Measured
from inference_node.model.forward import TokenRun
from inference_node.model.runner import ModelRunner, SideRunner
from inference_node.model.sampler import SampleRequest, sample
from inference_node.scheduling.sampling_params import SamplingParams

# Cache that prefill steps fill and decode steps then read, in tokens: pages that nobody wrote are all one page of zeros and read
# from the first-level cache, which would flatter attention.
_FILLED_TOKENS = 2048
_GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class ProbedStep:
    """`rows` sequences of `context` tokens decode, beside a prefill of `tokens` prompt tokens after `start` others."""

    rows: int = 0
    context: int = 0
    tokens: int = 0
    start: int = 0

    @property
    def shape(self) -> StepShape:
        return StepShape(
            decode_rows=self.rows,
            prefill_tokens=self.tokens,
            prefill_rows=int(self.tokens > 0),
            context_tokens=self.rows * self.context,
            prefill_pairs=self.tokens * self.start + self.tokens * self.tokens // 2,
        )


# Most telling first: a slow machine does not get to the end. Prefills before the decodes that read what they wrote.
STEPS = (
    ProbedStep(tokens=256),
    ProbedStep(rows=1, context=128),
    ProbedStep(rows=8, context=128),
    ProbedStep(rows=32, context=64),
    ProbedStep(tokens=64),
    ProbedStep(rows=4, context=128),
    ProbedStep(rows=16, context=128),
    ProbedStep(rows=8, context=128, tokens=128),
    ProbedStep(tokens=512),
    ProbedStep(rows=2, context=64),
    ProbedStep(rows=4, context=500),
    ProbedStep(rows=32, context=250),
    ProbedStep(tokens=128, start=384),
    ProbedStep(rows=4, context=128, tokens=32),
    ProbedStep(rows=12, context=128),
    ProbedStep(rows=24, context=64),
)
# Enough to tell whether times of an earlier run still hold: one memory-bound and two with more arithmetic.
CHECKS = (ProbedStep(rows=1, context=128), ProbedStep(rows=8, context=128), ProbedStep(tokens=128))


def probe(
    runner: ModelRunner | SideRunner,
    steps: tuple[ProbedStep, ...] = STEPS,
    *,
    max_model_len: int,
    progress: Callable[[float], None] = lambda share: None,
    budget_s: float = 2.0,
) -> list[Measured]:
    """Runs steps in rounds until the time is up, so that a machine that gets slower meanwhile slows all of them alike.

    Warms the kernels up on the way: the first run of each step does not count. A model so slow that the first round takes longer
    is stopped after twice the budget.
    """
    began = time.perf_counter()
    blocks = StepBlocks(runner)
    possible = [step for step in steps if blocks.fit(step, max_model_len)]
    warmed: set[ProbedStep] = set()
    measured: list[Measured] = []
    while possible:
        for step in possible:
            spent = time.perf_counter() - began
            progress(min(1.0, spent / budget_s))
            if spent > 2 * budget_s or (spent > budget_s and len(warmed) == len(possible)):
                return measured
            if step not in warmed:
                run_once(runner, blocks.runs(step))
                warmed.add(step)
            runs = blocks.runs(step)
            start = time.perf_counter()
            run_once(runner, runs)
            measured.append(Measured(step.shape, time.perf_counter() - start))
    return measured


def run_once(runner: ModelRunner | SideRunner, runs: list[TokenRun]) -> None:
    """As the engine's own step: logits, then tokens."""
    sample(runner.logits(runs), [SampleRequest(_GREEDY, (), seed=row) for row in range(len(runs))])


class StepBlocks:
    """Hands out the blocks of a small part of the cache in turn, over and over: rows may share some."""

    def __init__(self, runner: ModelRunner | SideRunner) -> None:
        self._size = runner.kv.block_size
        self._region = min(runner.kv.num_blocks, -(-_FILLED_TOKENS // self._size))
        self._next = 0

    def fit(self, step: ProbedStep, max_model_len: int) -> bool:
        longest = max(step.context + 1 if step.rows else 0, step.start + step.tokens)
        return longest <= min(max_model_len, self._region * self._size)

    def runs(self, step: ProbedStep) -> list[TokenRun]:
        runs = [TokenRun([0], step.context, self._take(step.context + 1), samples=True) for _ in range(step.rows)]
        if step.tokens:
            runs.append(TokenRun([0] * step.tokens, step.start, self._take(step.start + step.tokens), samples=True))
        return runs

    def _take(self, tokens: int) -> list[int]:
        count = -(-tokens // self._size)
        first, self._next = self._next, (self._next + count) % self._region
        return [(first + block) % self._region for block in range(count)]
