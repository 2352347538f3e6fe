"""Step times for simulated nodes, straight from the table that a real node measured: interpolated, never fitted.

The controller works with fits; were nodes simulated from the same fits, the controller would be judged by its own opinion.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError

from controlplane.errors import Invalid
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepProfile, StepSample, pruning_bucket

# How each was taken stands in the file.
SHIPPED = Path(__file__).parent / "tables" / "llama-27b-h200.json"
ONE_THREAD = Path(__file__).parent / "tables" / "smollm2-135m-one-thread.json"
_MIN_CELLS = 4
_Z95 = 1.645
_BIN = 32  # prefill tokens between two points of the looked-up grid
_MAX_ROWS, _MAX_PREFILL = 256, 2048


class BadStepTable(Invalid):
    """A file of step times that no node can be simulated from; the text names the file and the way out."""


@dataclass(frozen=True)
class StepTable:
    """Median seconds of a step by decode rows and prefill tokens, and how much single steps differ from them.

    `seconds`: [rows 0.., prefill bins 0..]. `sigma`: of the logarithm of a step against its median. `drifts`: slowly varying
    factors, as the smoothed time of each cell stood to its median when the table was taken.
    """

    seconds: NDArray[np.float64]
    sigma: float
    drifts: tuple[float, ...]
    profile: StepProfile
    precision: Precision

    def step_s(self, rows: int, prefill_tokens: int) -> float:
        """Median seconds of a step. Rows and tokens beyond the grid cost in proportion to its last cell."""
        row, column = min(rows, _MAX_ROWS), min(prefill_tokens, _MAX_PREFILL)
        left, rest = divmod(column, _BIN)
        line = self.seconds[row]
        found = float(line[left])
        if rest:
            found += (float(line[left + 1]) - found) * rest / _BIN
        return found * max(1.0, rows / _MAX_ROWS, prefill_tokens / _MAX_PREFILL)

    @property
    def knee_rows(self) -> int:
        """The most rows whose step still takes no longer than twice that of a single one: from there on latency buys little."""
        return int(np.searchsorted(self.seconds[:, 0], 2 * self.seconds[1, 0], side="right")) - 1


# A precision and a share of pruning, in the buckets of step tables.
Level = tuple[Precision, float]


@dataclass(frozen=True)
class Levels:
    """What a node can run: a table of steps for each level, and the share of quality that it costs; the exact one first."""

    tables: Mapping[Level, StepTable]
    losses: Mapping[Level, float]
    profile: StepProfile

    @property
    def exact(self) -> StepTable:
        return next(iter(self.tables.values()))

    @property
    def fastest(self) -> Level:
        """By a full batch of the exact level's, with some prefill in it."""
        rows = self.exact.knee_rows
        return min(self.tables, key=lambda level: self.tables[level].step_s(rows, 256))

    def of(self, settings: EngineSettings) -> StepTable:
        return self.tables[level_of(settings)]

    def loss(self, settings: EngineSettings) -> float:
        return self.losses[level_of(settings)]


def level_of(settings: EngineSettings) -> Level:
    return settings.precision, pruning_bucket(settings.pruning_threshold)


def single(table: StepTable) -> Levels:
    """Nodes that have nothing but that table."""
    return Levels({(table.precision, 0.0): table}, {(table.precision, 0.0): 0.0}, table.profile)


def read_levels(path: Path) -> Levels:
    """A file of step times with `losses`, or what `GET /admin/v1/step-model` answered: bf16 alone then. Raises BadStepTable."""
    profile = _read(path)
    listed = json.loads(path.read_bytes()).get("losses") or []
    if not listed:
        return single(step_table(profile, Precision.BF16))
    try:
        losses = {(Precision(each["precision"]), float(each["pruning"])): float(each["loss_ratio"]) for each in listed}
    except (KeyError, TypeError, ValueError) as error:
        raise BadStepTable(f"{path}: losses need precision, pruning and loss_ratio each ({error})") from error
    ordered = dict(sorted(losses.items(), key=lambda item: item[1]))
    return Levels({level: step_table(profile, *level) for level in ordered}, ordered, profile)


def read_step_table(path: Path, precision: Precision = Precision.BF16) -> StepTable:
    """From what `GET /admin/v1/step-model` of a node answered. Raises BadStepTable."""
    return step_table(_read(path), precision)


def _read(path: Path) -> StepProfile:
    try:
        return StepProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadStepTable(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise BadStepTable(
            f"{path} is no step model; save what GET /admin/v1/step-model of a node answers ({error.error_count()} errors)"
        ) from error


def step_table(profile: StepProfile, precision: Precision, pruning: float = 0.0) -> StepTable:
    """Raises BadStepTable when the node has measured too little at this level."""
    cells = [cell for cell in profile.cells if cell.precision is precision and cell.pruning == pruning]
    if len(cells) < _MIN_CELLS:
        raise BadStepTable(
            f"the step table holds {len(cells)} cells at {precision.value}, pruned by {pruning:g}, {_MIN_CELLS} are needed; "
            "let the node serve first"
        )
    return StepTable(_grid(cells), _sigma(cells), _drifts(cells), profile, precision)


def _grid(cells: Sequence[StepSample]) -> NDArray[np.float64]:
    """Triangles between the measured cells; outside them the nearest cell, in proportion to the tokens if there are more."""
    by_place: dict[tuple[int, int], list[StepSample]] = {}
    for cell in cells:
        by_place.setdefault((cell.decode_rows, cell.prefill_tokens), []).append(cell)
    places = np.array(list(by_place), dtype=float)
    # Cells that differ in context alone are one here, each counting with its steps.
    seconds = np.array(
        [np.average([c.step_s for c in found], weights=[c.samples for c in found]) for found in by_place.values()]
    )
    rows, tokens = np.meshgrid(np.arange(_MAX_ROWS + 1), np.arange(0, _MAX_PREFILL + _BIN + 1, _BIN), indexing="ij")
    wanted = np.column_stack([rows.ravel(), tokens.ravel()]).astype(float)
    scale = np.maximum(places.max(axis=0), 1.0)
    nearest = np.argmin((((wanted[:, None, :] - places[None]) / scale) ** 2).sum(axis=2), axis=1)
    more = wanted.sum(axis=1) / np.maximum(places[nearest].sum(axis=1), 1.0)
    outside = seconds[nearest] * np.maximum(more, 1.0)
    try:
        inside = LinearNDInterpolator(places, seconds, rescale=True)(wanted)
    except QhullError as error:
        raise BadStepTable(
            "the step table's cells lie on one line; it needs steps with and without prefill, of few rows and of many"
        ) from error
    found = np.where(np.isfinite(inside), inside, outside).reshape(rows.shape)
    # A step does not get faster by carrying more: chance in the cells must not say so.
    monotone: NDArray[np.float64] = np.maximum.accumulate(np.maximum.accumulate(found, axis=0), axis=1)
    return monotone


def _sigma(cells: Sequence[StepSample]) -> float:
    spreads = [math.log(cell.p95_s / cell.step_s) / _Z95 for cell in cells if cell.p95_s > cell.step_s]
    return float(np.median(spreads)) if spreads else 0.0


def _drifts(cells: Sequence[StepSample]) -> tuple[float, ...]:
    return tuple(cell.ewma_s / cell.step_s for cell in cells if cell.ewma_s > 0) or (1.0,)
