"""Fits step times: what one engine step costs, from the node's own probe and from the windows it served.

The probe gives the shape (it covers batches that have not been seen in service), the windows give the level (the probe ran alone
on the machine, service shares it). Linear in its weights, all of them >= 0: a step does not get faster by carrying more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from scipy.optimize import nnls

from controlplane.decisions.decision import StepTime
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepSample

_MIN_CELLS = 3
_MIN_WINDOWS = 10
_MIN_SPREAD = 0.3  # decode rows must vary by this share of their maximum, else slope and base cannot be told apart
_FORGET = 0.95  # weight of a window against the next newer one
_CELLS_WEIGHT = 0.5  # of one probe cell against the newest window
_JUDGED = 24
# Fewer windows than this have more noise in their median than what was learned from many.
_SHIFTING_WINDOWS = 5
_SHARED_MACHINE = (0.5, 4.0)  # bounds for how much slower service may be than the probe

# A window in means: decode rows, prefill tokens, seconds of a step.
Fact = tuple[float, float, float]
Factors = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was learned before of a precision: factors of base, rows and prefill on what the nodes expect, and their error.

    is_proven: whether the three do better than one level; while they do not, what is in force rests on its newest windows.
    share: how much of it still counts, 1 while it is in force; the rest is taken from the level of the one in force.
    """

    factors: Factors
    level: float
    share: float
    error_ratio: float | None
    windows: int
    is_proven: bool = True


def fit_step_times(
    cells: Sequence[StepSample],
    windows: Sequence[Observation],
    precision: Precision,
    offered: Sequence[StepTime] = (),
    recalled: Mapping[Precision, Recalled] | None = None,
) -> tuple[StepTime, ...]:
    """One StepTime per precision that can be told; `windows` (oldest first) were served under `precision`.

    What the nodes fitted themselves (`offered`) is taken as it is, but for the level, which the windows set; they have seen each
    step where we see means. A precision that they do not offer is fitted here, to their probe and the windows.
    A precision that is not in force rests on the probe alone, slowed by the same factor as the one in force. Where something is
    `recalled` of it from when it was, it rests on that, slowed by as much as the one in force is against what is recalled of it.
    Source of the form: step = base + rows + prefill tokens, as fitted by llm-d's and Dynamo's planners; weights by non-negative
    least squares (Lawson and Hanson, "Solving Least Squares Problems", 1974).
    """
    facts, recalled = facts_of(windows), recalled or {}
    by_precision = {p: [c for c in cells if c.precision is p] for p in Precision}
    fitted_by_nodes = {step.precision: step for step in offered}
    bases = {
        each: basis
        for each in recalled
        if (basis := fitted_by_nodes.get(each) or probed(by_precision[each])) is not None
    }
    here = recalled.get(precision)
    shift = level = 1.0
    if bases:
        if here is not None and precision in bases:
            shift = shift_of(bases[precision].by_parts(*here.factors), facts)
        level = _level(fitted_by_nodes.get(precision) or probed(by_precision[precision]), facts, here)
    offered_slowdown = _level(fitted_by_nodes.get(precision), facts, here)
    # Looked at only where some precision has to be fitted here.
    slowdown = None
    found = []
    for each, own in by_precision.items():
        if each in bases and (each is not precision or recalled[each].is_proven):
            found.append(_reminded(bases[each], recalled[each], shift, level))
            continue
        if each in fitted_by_nodes:
            leveled = _leveled(fitted_by_nodes[each], offered_slowdown, facts if each is precision else [])
            found.append(_honest(leveled, recalled.get(each)))
            continue
        if slowdown is None:
            slowdown = _level(probed(by_precision[precision]), facts, here)
        fitted = _fit(each, own, facts if each is precision else [], slowdown)
        if fitted is not None:
            found.append(fitted)
    return tuple(found)


def facts_of(windows: Sequence[Observation]) -> list[Fact]:
    """Of the windows that can be used."""
    served = [(w.decode_rows_mean, w.prefill_tokens_mean, w.step_mean_s) for w in windows if w.usable]
    return [
        (rows, prefill, step) for rows, prefill, step in served if rows is not None and prefill is not None and step
    ]


def _level(expected: StepTime | None, facts: Sequence[Fact], here: Recalled | None) -> float:
    """How much slower than the nodes expect the machine is by the newest windows, or else by what is recalled."""
    return here.level if here is not None and not facts else slowdown_of(expected, facts)


def shift_of(shape: StepTime, facts: Sequence[Fact]) -> float:
    """How much longer the newest windows' steps took than was learned of them: nothing says so until some windows do."""
    return slowdown_of(shape, facts) if len(facts) >= _SHIFTING_WINDOWS else 1.0


def _reminded(basis: StepTime, known: Recalled, shift: float, level: float) -> StepTime:
    parts = [
        min(max(known.share * factor * shift + (1 - known.share) * level, _SHARED_MACHINE[0]), _SHARED_MACHINE[1])
        for factor in known.factors
    ]
    return replace(
        basis.by_parts(parts[0], parts[1], parts[2]),
        samples=basis.samples + known.windows,
        error_ratio=basis.error_ratio if known.error_ratio is None else known.error_ratio,
        measured=True,
    )


def slowdown_of(expected: StepTime | None, facts: Sequence[Fact]) -> float:
    """How much longer than expected the newest windows' steps took."""
    if expected is None or not facts:
        return 1.0
    ratios = [step / max(expected.at(rows, prefill), 1e-9) for rows, prefill, step in facts[-12:]]
    return min(max(median(ratios), _SHARED_MACHINE[0]), _SHARED_MACHINE[1])


def _leveled(offered: StepTime, slowdown: float, facts: Sequence[Fact]) -> StepTime:
    """A node's fit at the level of the windows; its error is that on them, where there are some."""
    step = offered.scaled(slowdown)
    return replace(step, error_ratio=_error(step, facts), measured=True) if facts else step


def _honest(step: StepTime, known: Recalled | None) -> StepTime:
    """With the error of what was said before windows came, where that is known: afterwards any fit looks better than it is."""
    return step if known is None or known.error_ratio is None else replace(step, error_ratio=known.error_ratio)


def _error(step: StepTime, judged: Sequence[Fact]) -> float:
    errors = [abs(step.at(rows, prefill) - seconds) / seconds for rows, prefill, seconds in judged[-_JUDGED:]]
    return sum(errors) / len(errors)


def _fit(precision: Precision, cells: Sequence[StepSample], facts: Sequence[Fact], slowdown: float) -> StepTime | None:
    rows = [(c.decode_rows, c.prefill_tokens, c.step_s * slowdown) for c in cells]
    if len(rows) < _MIN_CELLS:
        most = max((decode for decode, _, _ in facts), default=0.0)
        least = min((decode for decode, _, _ in facts), default=0.0)
        if len(facts) < _MIN_WINDOWS or most - least < _MIN_SPREAD * most:
            return None
    weights = [_CELLS_WEIGHT] * len(rows) + [_FORGET**age for age in range(len(facts) - 1, -1, -1)]
    points = np.array([*rows, *facts], dtype=float)
    # Each row is divided by its own time: what counts is the relative error.
    scale = np.sqrt(np.array(weights)) / points[:, 2]
    design = np.column_stack([np.ones(len(points)), points[:, 0], points[:, 1]]) * scale[:, None]
    solution, _ = nnls(design, points[:, 2] * scale)
    base, row, prefill = (float(value) for value in solution)
    step = StepTime(precision, base, row, prefill, samples=len(points), error_ratio=0.0, measured=bool(facts))
    return replace(step, error_ratio=_error(step, facts or rows))


def probed(cells: Sequence[StepSample]) -> StepTime | None:
    """A precision's steps by the nodes' probe alone; None for too few cells."""
    return None if len(cells) < _MIN_CELLS else _fit(cells[0].precision, cells, [], 1.0)
