"""From measured steps to a `StepFit`: what one more token, row or read key costs, by non-negative least squares.

On relative residuals, repeated with Huber's weights ("Robust Estimation of a Location Parameter", 1964), since what disturbs a
step makes it longer, sometimes many times so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference_node.contract.step_profile import StepArithmetic, StepFit, StepShape
from inference_node.engine.nnls import non_negative_least_squares

# Where the curve over tokens may bend: closely at sizes of decode batches, where padding and tiles show.
KNOTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
MIN_SAMPLES = 6
_ROUNDS = 3
# Residuals up to this share count in full, larger ones less and less: steady steps scatter by one to three per cent.
_HUBER = 0.04
# Pull towards equal slopes in neighbouring pieces of the curve, against noise where few steps were seen.
_SMOOTH = 0.02
_RIDGE = 1e-4

Matrix = NDArray[np.float64]


class Measured(NamedTuple):
    """One step, and how much it counts."""

    shape: StepShape
    step_s: float
    weight: float = 1.0


def fit_steps(arithmetic: StepArithmetic, steps: Sequence[Measured]) -> StepFit | None:
    """The fit of these steps, or None when there are too few different ones to tell anything (fewer than MIN_SAMPLES)."""
    if len({step.shape for step in steps}) < MIN_SAMPLES:
        return None
    times = np.array([step.step_s for step in steps])
    knots = _knots([step.shape.tokens for step in steps])
    design = _design([step.shape for step in steps], knots)
    weights = np.array([step.weight for step in steps])
    solution = _solve(design, times, weights, len(knots))
    slopes = solution[5:]
    widths = np.diff(np.array([0, *knots]))
    heights = np.cumsum(slopes * widths)
    base, decode_row, prefill_row, context, pair = (float(value) for value in solution[:5])
    return StepFit(
        precision=arithmetic.precision,
        kv_precision=arithmetic.kv_precision,
        pruning=arithmetic.pruning,
        base_s=base,
        curve=tuple((knot, float(height)) for knot, height in zip(knots, heights, strict=True)),
        decode_row_s=decode_row,
        prefill_row_s=prefill_row,
        context_token_s=context,
        prefill_pair_s=pair,
        samples=len(steps),
    )


def _knots(tokens: Sequence[int]) -> tuple[int, ...]:
    """Those ends of pieces in which a step was seen, the last one beyond them all."""
    found: list[int] = []
    before = 0
    for knot in KNOTS:
        if any(before < count <= knot for count in tokens):
            found.append(knot)
            before = knot
    most = max(tokens)
    return (*found, most) if most > before else tuple(found)


def _design(shapes: Sequence[StepShape], knots: Sequence[int]) -> Matrix:
    """[N, 5 + K]: base, decode rows, prefill rows, context, pairs, and how far each step reaches into each piece of the curve."""
    columns = [
        np.ones(len(shapes)),
        np.array([shape.decode_rows for shape in shapes], dtype=float),
        np.array([shape.prefill_rows for shape in shapes], dtype=float),
        np.array([shape.context_tokens for shape in shapes], dtype=float),
        np.array([shape.prefill_pairs for shape in shapes], dtype=float),
    ]
    tokens = np.array([shape.tokens for shape in shapes], dtype=float)
    before = 0
    for knot in knots:
        columns.append(np.clip(tokens - before, 0.0, knot - before))
        before = knot
    return np.column_stack(columns)


def _solve(design: Matrix, times: Matrix, weights: Matrix, num_pieces: int) -> Matrix:
    """Costs in seconds, each >= 0, that explain the times with the least relative error."""
    # In units of each cost's largest share of a typical step, so that ridge and smoothing treat all costs alike.
    unit = float(np.median(times)) / np.maximum(design.max(axis=0), 1e-12)
    relative = design * unit / times[:, None]
    held = np.vstack([_smoothing(unit, num_pieces), np.eye(len(unit)) * _RIDGE])
    robust = np.ones(len(times))
    solution = np.zeros(len(unit))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights * robust / weights.sum())
        rows, target = np.vstack([relative * root[:, None], held]), np.concatenate([root, np.zeros(len(held))])
        solution = non_negative_least_squares(rows, target)
        robust = np.minimum(1.0, _HUBER / np.maximum(np.abs(relative @ solution - 1.0), 1e-9))
    costs: Matrix = solution * unit
    return costs


def _smoothing(unit: Matrix, num_pieces: int) -> Matrix:
    """[K - 1, 5 + K]: rows that are zero where two neighbouring pieces are equally steep."""
    rows = np.zeros((max(0, num_pieces - 1), len(unit)))
    first = len(unit) - num_pieces
    for piece in range(num_pieces - 1):
        left, right = first + piece, first + piece + 1
        # A slope is cost times unit; compared over the narrower of the two pieces.
        narrow = 1 / max(unit[left], unit[right])
        rows[piece, left], rows[piece, right] = unit[left] * narrow, -unit[right] * narrow
    return rows * _SMOOTH
