"""`trimtab bench fusion`: operators and time of one step, before (transformers, eager) and after (our graph). Asserts nothing."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers import __version__ as transformers_version
from transformers.utils import logging

from inference_node.bench.figures import machine, spread, versions
from inference_node.bench.operators import OperatorCount, count_operators
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid
from inference_node.model import weights
from inference_node.model.backend import build, describe
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.forward import TokenRun
from inference_node.model.native_forward import stages
from inference_node.model.native_weights import NativeStore
from inference_node.model.runner import ModelRunner
from inference_node.model.spec import ModelSpec

EAGER = "transformers, eager"
_BLOCK = 16
_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """`rows`: decode batches, over `context` tokens each; `prompt_tokens`: of the one prompt. Raises Invalid."""

    model: Path
    precision: Precision = Precision.BF16
    rows: tuple[int, ...] = (1, 8, 32)
    context: int = 128
    prompt_tokens: int = 128
    repeats: int = 9
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in _DTYPES:
            raise Invalid(f"precision {self.precision}: transformers has fp32 and bf16 to compare with")
        for name in ("context", "prompt_tokens", "repeats"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0, got {getattr(self, name)}")
        if any(count <= 0 for count in self.rows):
            raise Invalid("rows must be above 0")


@dataclass(frozen=True, slots=True)
class Case:
    """One step: `tokens` [B][T] are computed after `before` [B][N] that lie in the cache; a prompt has no tokens before it."""

    phase: str
    before: Sequence[Sequence[int]]
    tokens: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """`run` gives logits [B, V] of each row's last token; `undo`, neither timed nor counted, makes the cache what it was."""

    run: Callable[[], Tensor]
    undo: Callable[[], object] = lambda: None


class Way(Protocol):
    """One way to compute a step."""

    @property
    def name(self) -> str: ...

    @property
    def stages(self) -> tuple[str, ...]:
        """What a native step runs inside its one call, or empty."""

    def prepare(self, case: Case) -> "Step":
        """Fills the cache."""


class TransformersWay:
    """transformers' module as it is, over its dynamic cache."""

    name = EAGER
    stages: tuple[str, ...] = ()

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        logging.disable_progress_bar()
        self._module: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", local_files_only=True, trust_remote_code=False
        ).eval()
        # transformers 5.24 renamed it.
        self._cache = "cache" if "cache" in signature(self._module.forward).parameters else "past_key_values"

    def prepare(self, case: Case) -> Step:
        kept, cache = len(case.before[0]), DynamicCache()
        tokens = torch.tensor(case.tokens)
        with torch.inference_mode():
            if kept:
                self._module(torch.tensor(case.before), **{self._cache: cache}, use_cache=True, logits_to_keep=1)

        @torch.inference_mode()
        def step() -> Tensor:
            held = cache if kept else DynamicCache()
            answer = self._module(tokens, **{self._cache: held}, use_cache=True, logits_to_keep=1)
            logits: Tensor = answer.logits[:, -1]
            return logits

        return Step(step, (lambda: cache.crop(-1)) if kept else lambda: None)


@dataclass(frozen=True, slots=True)
class OurWay:
    """A runner's step; `stages` are what the native step runs inside its one call, or empty."""

    name: str
    runner: ModelRunner
    stages: tuple[str, ...] = field(default=())

    def prepare(self, case: Case) -> Step:
        kept = len(case.before[0])
        blocks = -(-(kept + len(case.tokens[0])) // _BLOCK)
        tables = [range(row * blocks, (row + 1) * blocks) for row in range(len(case.tokens))]
        if kept:
            self.runner.logits(
                [TokenRun(tokens, 0, table, samples=True) for tokens, table in zip(case.before, tables, strict=True)]
            )
        runs = [TokenRun(tokens, kept, table, samples=True) for tokens, table in zip(case.tokens, tables, strict=True)]
        return Step(lambda: self.runner.logits(runs))


def run(options: FusionOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Measure; the whole report as plain values, ready for JSON. Raises ModelNotFound, ModelInvalid, ModelUnsupported."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    before = machine()
    spec = describe(options.model)
    progress(f"loading {options.model.name} in {options.precision}, once for each way")
    ways = _ways(options, spec)
    return {
        "benchmark": "fusion",
        "model": options.model.name,
        "family": spec.family,
        "threads": torch.get_num_threads(),
        "hardware": before,
        "versions": {**versions(), "torch": torch.__version__, "transformers": transformers_version},
        "load": {**asdict(options), "model": str(options.model), "precision": options.precision.value},
        "native_stages": {way.name: list(way.stages) for way in ways if way.stages},
        "results": [_measure(case, ways, options.repeats, progress) for case in _cases(options, spec)],
    }


def _ways(options: FusionOptions, spec: ModelSpec) -> list[Way]:
    checkpoint = Checkpoint.open(options.model)

    def runner(store: Any) -> ModelRunner:
        length = max(options.context + 1, options.prompt_tokens)
        blocks = max([*options.rows, 1]) * -(-length // _BLOCK)
        return ModelRunner(spec, store, num_blocks=blocks, block_size=_BLOCK, max_model_len=length)

    ways: list[Way] = [TransformersWay(options.model, _DTYPES[options.precision])]
    chosen = build(checkpoint, spec, options.precision)
    if spec.foreign is not None:
        return [*ways, OurWay("transformers, over our pages", runner(chosen))]
    if not isinstance(chosen, NativeStore):
        return [*ways, OurWay("our graph, torch", runner(chosen))]
    return [
        *ways,
        OurWay("our graph, torch", runner(weights.build(checkpoint, spec, options.precision))),
        OurWay("our graph, native", runner(chosen), stages(spec)),
    ]


def _cases(options: FusionOptions, spec: ModelSpec) -> list[Case]:
    generator = torch.Generator().manual_seed(options.seed)

    def texts(count: int, length: int) -> list[list[int]]:
        drawn: list[list[int]] = torch.randint(0, spec.vocab_size, (count, length), generator=generator).tolist()
        return drawn

    decode = [Case("decode", texts(rows, options.context), texts(rows, 1)) for rows in options.rows]
    return [*decode, Case("prefill", [[]], texts(1, options.prompt_tokens))]


def _measure(case: Case, ways: Sequence[Way], repeats: int, progress: Progress) -> dict[str, Any]:
    """The ways take turns, so that what else the machine does meets all alike."""
    rows, tokens = len(case.tokens), len(case.tokens[0])
    progress(f"{case.phase}, {rows} x {tokens} tokens")
    steps = [way.prepare(case) for way in ways]
    logits = []
    for step in steps:
        logits.append(step.run())
        step.undo()
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for step, taken in zip(steps, times, strict=True):
            begun = time.perf_counter()
            step.run()
            taken.append(1000 * (time.perf_counter() - begun))
            step.undo()
    counts = [count_operators(step.run) for step in steps]
    first = statistics.median(times[0])
    return {
        "phase": case.phase,
        "rows": rows,
        "tokens": tokens,
        "context": len(case.before[0]),
        "ways": [
            _row(way, count, taken, first) | {"kl_nats": _divergence(found, logits[0])}
            for way, count, taken, found in zip(ways, counts, times, logits, strict=True)
        ],
    }


def _row(way: Way, count: OperatorCount, taken: Sequence[float], first: float) -> dict[str, Any]:
    median = statistics.median(taken)
    return {
        "name": way.name,
        "operators_called": count.called,
        "operators_computing": count.computing,
        "operators_inside": count.inside,
        "native_calls": 1 if way.stages else 0,
        "native_stages": len(way.stages),
        "most_called": dict(count.most),
        "step_ms": round(median, 3),
        "step_ms_spread": spread(taken),
        "speedup": round(first / median, 3),
    }


def _divergence(found: Tensor, expected: Tensor) -> float:
    """Mean KL divergence, in nats, of the next token's likelihoods from the first way's: whether all computed the same."""
    exact, ours = (logits.double().log_softmax(-1) for logits in (expected, found))
    return round(max(0.0, float((exact.exp() * (exact - ours)).sum(-1).mean())), 6)
