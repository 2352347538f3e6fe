"""Reads the traces of a folder: one service each, in windows of fixed length, with what a Prometheus scrape would show.

A file is `NAME.metrics.parquet`. Required columns: t, arrivals, ttft_p99. The rest is taken as absent where a file has
none, further columns are let be, and windows that a recording skipped are filled with the window before them and told in
the notes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from controlplane.errors import Invalid

SUFFIX = ".metrics.parquet"
Floats = NDArray[np.float64]

REQUIRED = ("t", "arrivals", "ttft_p99")
OPTIONAL = (
    "input_tokens",
    "decoded_tokens",
    "replicas",
    "desired",
    "running",
    "waiting",
    "kv_usage",
    "dropped",
    "ttft_p50",
)
_MIN_WINDOWS = 40
_MAX_FILLED_RATIO = 0.2


class BadTraces(Invalid):
    """A folder or a file of traces that cannot be scored; the text names the file, the column and the way out."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A service over time. `t`: [N] end of each window, seconds, evenly `step_s` apart; `columns`: [N] each, counts per window
    or gauges at `t`, latencies in seconds; NaN where nothing was measured (no request, so no latency)."""

    name: str
    t: Floats
    step_s: float
    columns: Mapping[str, Floats]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, column: str) -> Floats:
        return self.columns[column]

    def part(self, start: int, stop: int) -> "Trace":
        """Windows start (included) to stop (excluded)."""
        cut = {name: values[start:stop] for name, values in self.columns.items()}
        return Trace(self.name, self.t[start:stop], self.step_s, cut, self.notes)

    def then(self, later: "Trace") -> "Trace":
        """This trace, and `later` after it. What `later` repeats of this one is dropped; a `later` whose clock starts anew
        goes on where this one ends."""
        t, first = later.t, int(np.searchsorted(later.t, self.t[-1] + self.step_s / 2))
        if first and not self._repeats(later, first):
            t, first = later.t - later.t[0] + later.step_s + self.t[-1], 0
        columns = {name: np.concatenate([values, later[name][first:]]) for name, values in self.columns.items()}
        return Trace(self.name, np.concatenate([self.t, t[first:]]), self.step_s, columns, self.notes + later.notes)

    def _repeats(self, later: "Trace", count: int) -> bool:
        """Whether the first `count` windows of `later` hold the arrivals of the same time here."""
        at = np.searchsorted(self.t, later.t[:count] - self.step_s / 2)
        here = self["arrivals"][np.minimum(at, len(self) - 1)]
        return float(np.mean(here == later["arrivals"][:count])) > 0.5


def read_folder(folder: Path) -> list[Trace]:
    """Every trace of the folder, by name. Raises BadTraces."""
    if not folder.is_dir():
        raise BadTraces(f"{folder} is no folder; name one that holds files called NAME{SUFFIX}")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    if not files:
        raise BadTraces(f"{folder} holds no file called NAME{SUFFIX}")
    return [read_trace(path) for path in files]


def read_trace(path: Path) -> Trace:
    """Raises BadTraces when the file cannot be read, lacks a column, or holds too little."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise BadTraces(f"{path.name} cannot be read as Parquet: {str(error)[:200]}") from error
    missing = [column for column in REQUIRED if column not in frame.columns]
    if missing:
        raise BadTraces(f"{path.name} lacks the column {missing[0]}; it needs {', '.join(REQUIRED)}")
    return trace_of(path.name.removesuffix(SUFFIX), frame)


def trace_of(name: str, frame: pd.DataFrame) -> Trace:
    """A trace of a table with the columns of a metrics file. Raises BadTraces."""
    columns: dict[str, Floats] = {}
    for column in (*REQUIRED, *OPTIONAL):
        if column in frame.columns:
            try:
                columns[column] = frame[column].to_numpy(dtype=float, na_value=np.nan)
            except (ValueError, TypeError) as error:
                raise BadTraces(f"{name}: column {column} holds something that is no number ({error})") from error
    t = columns.pop("t")
    known = np.isfinite(t)
    order = np.argsort(t[known], kind="stable")
    t = t[known][order]
    first = np.concatenate([[True], np.diff(t) > 0]) if len(t) else np.zeros(0, dtype=bool)
    t = t[first]
    if len(t) < _MIN_WINDOWS:
        raise BadTraces(f"{name} holds {len(t)} windows; a trace needs {_MIN_WINDOWS} at least")
    step_s = float(np.median(np.diff(t)))
    # Index of each window of an even grid in the file: the newest row at or before it.
    grid = t[0] + step_s * np.arange(round((t[-1] - t[0]) / step_s) + 1)
    source = np.clip(np.searchsorted(t, grid + step_s / 2) - 1, 0, len(t) - 1)
    filled = int((np.abs(t[source] - grid) > step_s / 2).sum())
    if filled > _MAX_FILLED_RATIO * len(grid):
        raise BadTraces(
            f"{name}: {filled} of {len(grid)} windows of {step_s:g} s are missing; column t is not evenly spaced"
        )
    notes = [f"{filled} windows missing, filled with the one before"] if filled else []
    even: dict[str, Floats] = {}
    for column in (*REQUIRED[1:], *OPTIONAL):
        if column not in columns:
            even[column] = np.full(len(grid), np.nan)
            notes.append(f"no column {column}")
            continue
        values = columns[column][known][order][first][source]
        values = np.where(np.isfinite(values) & (values >= 0), values, np.nan)
        even[column] = values
    return Trace(name, grid, step_s, even, tuple(notes))
