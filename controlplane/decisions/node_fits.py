"""Step times as the nodes themselves fitted them, brought to the shape that the pool's model works with.

A node's fit knows context, chunks and where the curve over tokens bends; the pool's model asks for decode rows and prefill tokens
alone. The rest is filled in with the pool's average request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Self

from controlplane.decisions.decision import StepTime, Workload
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepArithmetic, StepFit, StepProfile, StepShape

# A fit whose predictions are off by more than this half of the time is no better than a guess of our own.
_WORST_ERROR = 0.15
# Of a fit that no served step has tested yet.
_UNTESTED_ERROR = 0.05
# What fits are compared on, whatever is being served: nothing, 16 rows with a context of 512, and those beside a chunk of 256.
_COMPARED = (
    StepShape(0),
    StepShape(16, context_tokens=16 * 512),
    StepShape(16, 256, 1, context_tokens=16 * 512, prefill_pairs=256 * 256 // 2),
)
_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def offered_step_times(
    profiles: Sequence[StepProfile], settings: EngineSettings, workload: Workload | None
) -> tuple[StepTime, ...]:
    """One StepTime for each precision that some node has a good fit of, the mean of the nodes'; empty for nodes that offer none.

    Fits count that were made under the KV format and the pruning in force: elsewhere the node has not run yet.
    """
    wanted = StepArithmetic.of(settings)
    shapes = _Shapes.of(settings, workload)
    found: list[StepTime] = []
    for precision in Precision:
        step = _offered(profiles, wanted.model_copy(update={"precision": precision}), shapes)
        if step is not None:
            found.append(step)
    return tuple(found)


def offered_at(
    profiles: Sequence[StepProfile], level: StepArithmetic, settings: EngineSettings, workload: Workload | None
) -> StepTime | None:
    """The same for one arithmetic, which need not be that of the settings."""
    return _offered(profiles, level, _Shapes.of(settings, workload))


def compared_parts(profiles: Sequence[StepProfile], level: StepArithmetic) -> tuple[float, float, float] | None:
    """Seconds of base, rows and prefill of a fixed step by the nodes' fits of an arithmetic: they differ as the fits do."""
    fits = [fit for profile in profiles if (fit := profile.fit_for(level)) is not None and _is_good(fit)]
    if not fits:
        return None
    empty, rows, both = (fmean(fit.step_s(shape) for fit in fits) for shape in _COMPARED)
    return empty, rows - empty, both - rows


def _offered(profiles: Sequence[StepProfile], level: StepArithmetic, shapes: "_Shapes") -> StepTime | None:
    fits = [fit for profile in profiles if (fit := profile.fit_for(level)) is not None and _is_good(fit)]
    return _mean([_folded(fit, shapes) for fit in fits]) if fits else None


def at_other_lengths(
    steps: Sequence[StepTime],
    profiles: Sequence[StepProfile],
    settings: EngineSettings,
    before: Workload,
    after: Workload,
) -> tuple[StepTime, ...]:
    """Step times that were folded for requests as long as `before`, for such as long as `after`, at the level that they have.

    What the nodes offer no fit of was fitted without context, and stays as it is.
    """
    then = {step.precision: step for step in offered_step_times(profiles, settings, before)}
    now = {step.precision: step for step in offered_step_times(profiles, settings, after)}
    return tuple(_moved(step, then.get(step.precision), now.get(step.precision)) for step in steps)


def _moved(step: StepTime, then: StepTime | None, now: StepTime | None) -> StepTime:
    if then is None or now is None or not step.curve or then.at(1.0, 0.0) <= 0:
        return step
    level = step.at(1.0, 0.0) / then.at(1.0, 0.0)
    # Base, rows and prefill may each have a level of their own.
    moved = now.by_parts(
        _ratio(step.base_s, then.base_s, level),
        _ratio(step.curve_s(_ROWS[-1]), then.curve_s(_ROWS[-1]), level),
        _ratio(step.prefill_token_s, then.prefill_token_s, level),
    )
    return replace(moved, samples=step.samples, error_ratio=step.error_ratio, measured=step.measured)


def _ratio(of: float, to: float, otherwise: float) -> float:
    return of / to if of > 0 and to > 0 else otherwise


def _is_good(fit: StepFit) -> bool:
    return fit.error_median is None or fit.error_median <= _WORST_ERROR


@dataclass(frozen=True, slots=True)
class _Shapes:
    """The steps that are asked about, of the average request. curve: by decode rows, each with that request's context."""

    curve: tuple[StepShape, ...]
    beside: StepShape
    with_chunk: StepShape

    @classmethod
    def of(cls, settings: EngineSettings, workload: Workload | None) -> Self:
        prompt, answer = (workload.prompt_tokens, workload.generation_tokens) if workload is not None else (1.0, 1.0)
        context = prompt + answer / 2
        # What a token of a prompt adds to a step that has half a batch of decode rows in it already: the curve's chord, not its
        # slope, since a step carries a whole chunk or nothing.
        beside = max(1, settings.max_batch_size // 2)
        chunk = max(1, min(round(prompt), settings.max_batched_tokens - beside))
        return cls(
            curve=tuple(StepShape(rows, context_tokens=int(rows * context)) for rows in _ROWS),
            beside=StepShape(beside),
            with_chunk=StepShape(beside, chunk, 1, 0, chunk * chunk // 2),
        )


_EMPTY = StepShape(0)


def _folded(fit: StepFit, shapes: _Shapes) -> StepTime:
    """In rows and prefill tokens: each row with the context of the average request, prefill in chunks of its prompt."""
    empty = fit.step_s(_EMPTY)
    return StepTime(
        precision=fit.precision,
        base_s=empty,
        row_s=0.0,
        prefill_token_s=(fit.step_s(shapes.with_chunk) - fit.step_s(shapes.beside)) / shapes.with_chunk.prefill_tokens,
        samples=fit.samples,
        error_ratio=_UNTESTED_ERROR if fit.error_median is None else fit.error_median,
        measured=fit.error_median is not None,
        curve=tuple((shape.decode_rows, fit.step_s(shape) - empty) for shape in shapes.curve),
    )


def _mean(steps: Sequence[StepTime]) -> StepTime:
    """Of equal nodes: the load is spread evenly, so that their means are what counts."""
    return StepTime(
        precision=steps[0].precision,
        base_s=fmean(step.base_s for step in steps),
        row_s=0.0,
        prefill_token_s=fmean(step.prefill_token_s for step in steps),
        samples=sum(step.samples for step in steps),
        error_ratio=fmean(step.error_ratio for step in steps),
        measured=all(step.measured for step in steps),
        curve=tuple(
            (rows, fmean(step.curve[place][1] for step in steps)) for place, (rows, _) in enumerate(steps[0].curve)
        ),
    )
