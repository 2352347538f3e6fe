"""Step times of one arithmetic: a table of cells, the fit through it, and how far the machine is from the fit right now.

Two layers: the fit says what steps of each shape cost and is worked out anew now and then; the level is one factor for all of
them and follows, step by step, a machine that gets slower or faster within seconds. (A factor for each cell as well was tried and
brought nothing: 5.8 against 5.6 % at the 95th percentile, simulated; 11.9 against 11.2 % measured.)
"""

import math
import statistics
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference_node.contract.step_profile import StepArithmetic, StepFit, StepSample, StepShape
from inference_node.engine.kept_steps import KeptStep, KeptTrack
from inference_node.engine.step_fit import Measured

DECODE_ROWS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PREFILL_TOKENS = (0, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
CONTEXT_TOKENS = (0, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
# Of each cell: how many steps its quantiles rest on, and how many go into the fit.
_TABLE_DEPTH, _FIT_DEPTH = 32, 12
_MAX_CELLS = 512
_ERRORS = 512
# Weight of a new step in the level; one that is off by more than the clip (a logarithm) counts as that much.
_LEVEL_GAIN, _CLIP = 0.08, 0.3
_BORROWED_GAIN, _PRIOR_WEIGHT = 0.3, 0.1
_EWMA_GAIN = 0.1

CellKey = tuple[int, int, int]


@dataclass(slots=True)
class Cell:
    """Steps of about one shape. `leveled` are steps in seconds at level 0."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=_TABLE_DEPTH))
    leveled: deque[tuple[StepShape, float]] = field(default_factory=lambda: deque(maxlen=_FIT_DEPTH))
    ewma_s: float = 0.0
    seen: int = 0


class StepTrack:
    """`level` is the logarithm of what steps take now over what the fit says. One thread at a time: `StepModel` holds the lock.

    A track that knows nothing borrows from the one that ran before: a wrong guess that the level mends within some steps serves a
    scheduler better than none. What is borrowed is told to nobody else.
    """

    def __init__(self, arithmetic: StepArithmetic) -> None:
        self.arithmetic = arithmetic
        self.cells: dict[CellKey, Cell] = {}
        self.fit: StepFit | None = None
        self.level = 0.0
        self.unfitted = 0
        self._errors: deque[float] = deque(maxlen=_ERRORS)
        # One step of each of the lender's cells, as its fit has it: stands in for cells that were not seen here yet.
        self._prior: dict[CellKey, tuple[StepShape, float]] = {}
        self._is_borrowed = False

    def predict(self, shape: StepShape) -> float | None:
        """Seconds of such a step now; None without a fit. Reads only, so that it needs no lock."""
        return None if self.fit is None else self.fit.step_s(shape) * math.exp(self.level)

    def learn(self, shape: StepShape, step_s: float, *, judged: bool = True) -> None:
        """One more step; its prediction counts into the error if it is to be judged by it."""
        cell = self._cell(cell_key(shape))
        expected = self.predict(shape)
        if expected:
            if judged:
                self._errors.append(abs(expected - step_s) / step_s)
            surprise = min(max(math.log(step_s / expected), -_CLIP), _CLIP)
            self.level += (_BORROWED_GAIN if self._is_borrowed else _LEVEL_GAIN) * surprise
        cell.times.append(step_s)
        cell.leveled.append((shape, step_s / math.exp(self.level)))
        cell.ewma_s = cell.ewma_s + _EWMA_GAIN * (step_s - cell.ewma_s) if cell.seen else step_s
        cell.seen += 1
        self.unfitted += 1

    def steps(self) -> list[Measured]:
        """What to fit: a cell counts with the root of its steps, so that the one that is always served does not bend the rest."""
        self.unfitted = 0
        own = [
            Measured(shape, step_s, 1 / math.sqrt(len(cell.leveled)))
            for cell in self.cells.values()
            for shape, step_s in cell.leveled
        ]
        prior = [Measured(*step, _PRIOR_WEIGHT) for key, step in self._prior.items() if key not in self.cells]
        return own + prior

    def take(self, fit: StepFit) -> None:
        """Another fit, this track's own."""
        self.fit, self._is_borrowed = fit, False

    def keep(self) -> KeptTrack:
        """The steps that fits rest on, at level 0."""
        steps = tuple(KeptStep(shape=s, step_s=t) for cell in self.cells.values() for s, t in cell.leveled)
        return KeptTrack(arithmetic=self.arithmetic, steps=steps)

    def restore(self, kept: KeptTrack) -> None:
        """Steps of an earlier run, as if they had just been run."""
        for step in kept.steps:
            self.learn(step.shape, step.step_s, judged=False)

    def borrow(self, lender: "StepTrack") -> None:
        """The lender's fit and level, if there is none here yet."""
        if self.fit is not None or lender.fit is None:
            return
        self.fit, self.level, self._is_borrowed = lender.fit, lender.level, True
        shapes = {key: cell.leveled[-1][0] for key, cell in lender.cells.items() if cell.leveled}
        self._prior = {key: (shape, lender.fit.step_s(shape)) for key, shape in shapes.items()}

    def leveled_fit(self) -> StepFit | None:
        """The fit with the level worked in: what others should expect now."""
        if self.fit is None or self._is_borrowed:
            return None
        factor, error = math.exp(self.level), self.error()
        return self.fit.model_copy(
            update={
                "base_s": self.fit.base_s * factor,
                "curve": tuple((tokens, height * factor) for tokens, height in self.fit.curve),
                "decode_row_s": self.fit.decode_row_s * factor,
                "prefill_row_s": self.fit.prefill_row_s * factor,
                "context_token_s": self.fit.context_token_s * factor,
                "prefill_pair_s": self.fit.prefill_pair_s * factor,
                "error_median": error[0] if error else None,
                "error_p95": error[1] if error else None,
                "error_samples": len(self._errors),
            }
        )

    def table(self) -> list[StepSample]:
        """The cells that hold steps, smallest first."""
        return [self._sample(key, cell) for key, cell in sorted(self.cells.items()) if cell.times]

    def error(self) -> tuple[float, float] | None:
        """Median and 95 % quantile of the relative error of predictions that were made before their step was run."""
        return (statistics.median(self._errors), _quantile95(self._errors)) if self._errors else None

    def _sample(self, key: CellKey, cell: Cell) -> StepSample:
        rows, tokens, context = key
        return StepSample(
            precision=self.arithmetic.precision,
            kv_precision=self.arithmetic.kv_precision,
            pruning=self.arithmetic.pruning,
            decode_rows=rows,
            prefill_tokens=tokens,
            context_tokens=context,
            step_s=statistics.median(cell.times),
            p95_s=_quantile95(cell.times),
            ewma_s=cell.ewma_s,
            samples=cell.seen,
        )

    def _cell(self, key: CellKey) -> Cell:
        cell = self.cells.get(key)
        if cell is None:
            if len(self.cells) >= _MAX_CELLS:  # the least seen makes room
                del self.cells[min(self.cells, key=lambda other: self.cells[other].seen)]
            cell = self.cells[key] = Cell()
        return cell


def cell_key(shape: StepShape) -> CellKey:
    """The smallest cell that the step fits in: (decode rows, prefill tokens, context tokens)."""
    return (
        _ceiling(DECODE_ROWS, shape.decode_rows),
        _ceiling(PREFILL_TOKENS, shape.prefill_tokens),
        _ceiling(CONTEXT_TOKENS, shape.context_tokens),
    )


def _ceiling(edges: Sequence[int], value: int) -> int:
    index = bisect_left(edges, value)
    return edges[min(index, len(edges) - 1)]


def _quantile95(values: Sequence[float] | deque[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]
