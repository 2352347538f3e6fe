"""precision=auto: the format to begin with. The hardware table names candidates, a probe of two seconds times them, the quality
ceiling has the last word. What load asks for later is the control plane's to find out."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.guard import QualityGuard
from inference_node.engine.hardware_table import HardwareClass
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.engine.step_probe import ProbedStep, probe
from inference_node.model.backend import Store
from inference_node.model.runner import ModelRunner, Numerics

log = structlog.get_logger("engine.precision")

_WIDEST_FIRST = (Precision.FP32, Precision.BF16, Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4)
_FULL = (Precision.FP32, Precision.BF16)
# From so many sequences on, arithmetic weighs as much as bytes, and the table's other row holds.
_LARGE_BATCH = 8
# A narrower format has to take at most this share of the time: less would be noise, and answers are worth more.
_MARGIN = 0.9
# What a request is taken to be, where nobody knows yet: the shape of the benchmarks.
_PROMPT_TOKENS, _ANSWER_TOKENS, _CONTEXT = 128, 64, 128
_BUDGET_S, _ROUNDS = 2.0, 3
# More rows than this tell no more, and take a slow machine's whole budget.
_MOST_ROWS = 32


def candidates(machine: HardwareClass, offered: Iterable[Precision], batch: int) -> tuple[Precision, ...]:
    """Formats worth timing, widest first; one of full precision among them, since others may fail the quality ceiling."""
    named = machine.large_batch if batch >= _LARGE_BATCH else machine.small_batch
    there = set(offered)
    chosen = there & set(named)
    if not chosen & set(_FULL):
        chosen |= set(
            next(([p] for p in (*named, *machine.large_batch, *reversed(_FULL)) if p in _FULL and p in there), [])
        )
    return tuple(p for p in _WIDEST_FIRST if p in chosen)


def fastest(seconds_per_token: Mapping[Precision, float]) -> Precision:
    """Of formats widest first, the one that none before it comes near to: each must be faster than the last by a margin."""
    best, *narrower = seconds_per_token
    for precision in narrower:
        if seconds_per_token[precision] <= _MARGIN * seconds_per_token[best]:
            best = precision
    return best


def choose_precision(
    settings: EngineSettings,
    order: Sequence[Precision],
    runner: ModelRunner,
    reconfigurer: Reconfigurer,
    guard: QualityGuard,
    *,
    max_model_len: int,
    progress: Callable[[str, float], None],
) -> EngineSettings:
    """Settings with the precision that this machine and their batch size ask for, which the runner has switched to.

    order: as `candidates` gave it; the runner has the first. Takes two seconds; at the first start with a model, seconds more for
    each format whose answers have to be measured. Raises nothing: the first always remains.
    """
    first = order[0]
    numerics, refused = _prepare(settings, order, runner, reconfigurer, progress)
    progress("timing precisions", 0.5)
    costs = _time(runner, numerics, min(settings.max_batch_size, _MOST_ROWS), max_model_len)
    figures = {precision.value: round(cost * 1e6, 1) for precision, cost in costs.items()}
    while True:
        chosen = settings.replace(precision=fastest(costs))
        if chosen.precision is first:
            break
        try:
            if _is_good_enough(
                chosen, numerics[chosen.precision], guard, lambda: reconfigurer.full_precision(first), progress
            ):
                break
        except SettingsRefused as refusal:
            refused[chosen.precision] = str(refusal)
        del costs[chosen.precision]
    runner.switch(numerics[chosen.precision], [])
    reconfigurer.drop_unused(chosen.precision)
    log.info(
        "precision_chosen",
        precision=chosen.precision.value,
        batch=settings.max_batch_size,
        us_per_token=figures,
        refused={precision.value: why for precision, why in refused.items()},
    )
    return chosen


def _is_good_enough(
    settings: EngineSettings,
    numerics: Numerics,
    guard: QualityGuard,
    reference: Callable[[], Store],
    progress: Callable[[str, float], None],
) -> bool:
    """By a record, which is made if there is none. Raises SettingsRefused, which says by how much they are not."""
    if not guard.admits(settings):
        what = f"measuring the quality of {settings.precision}"
        guard.measure(settings, numerics, reference, lambda share: progress(what, share))
    return guard.admits(settings)


def _prepare(
    settings: EngineSettings,
    order: Sequence[Precision],
    runner: ModelRunner,
    reconfigurer: Reconfigurer,
    progress: Callable[[str, float], None],
) -> tuple[dict[Precision, Numerics], dict[Precision, str]]:
    """What fits into memory beside the first, and why the rest does not."""
    ready: dict[Precision, Numerics] = {}
    refused: dict[Precision, str] = {}
    for precision in order:
        wanted = settings.replace(precision=precision)
        progress(f"preparing {precision} weights", 0.3)
        try:
            reconfigurer.prepare(wanted, runner, order[0], lambda: True)
        except SettingsRefused as refusal:
            refused[precision] = str(refusal)
        else:
            ready[precision] = reconfigurer.numerics(wanted)
    return ready, refused


def _time(
    runner: ModelRunner, numerics: Mapping[Precision, Numerics], rows: int, max_model_len: int
) -> dict[Precision, float]:
    """Seconds for each token of an answer, its share of the prompt with it. Formats take turns, so that a machine that is busy
    for a while is busy for all of them."""
    context = min(_CONTEXT, max_model_len // 2)
    prompt = ProbedStep(tokens=min(_PROMPT_TOKENS, max_model_len // 2))
    decode = ProbedStep(rows=rows, context=context)
    seen: dict[Precision, dict[bool, list[float]]] = {precision: {True: [], False: []} for precision in numerics}
    for _ in range(_ROUNDS):
        for precision, each in numerics.items():
            runner.switch(each, [])
            budget_s = _BUDGET_S / _ROUNDS / len(numerics)
            for step in probe(runner, (prompt, decode), max_model_len=max_model_len, budget_s=budget_s):
                seen[precision][step.shape.decode_rows > 0].append(step.step_s)
    return {
        precision: statistics.median(times[True]) / rows + statistics.median(times[False]) / _ANSWER_TOKENS
        for precision, times in seen.items()
        if times[True] and times[False]
    }
