"""Both halves of the benchmark as one document: what stands in the JSON, and the files beside it."""

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from controlplane.bench.forecast import load_race, run
from controlplane.bench.forecast.run import Report

_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "statsmodels")


@dataclass(frozen=True, slots=True)
class Measured:
    """`document` is plain JSON; `spikes` and `race` keep the arrays that plots are drawn of."""

    document: dict[str, Any]
    spikes: Report | None
    race: list[load_race.Entry]


def measure(
    train: Path,
    test: Path | None,
    *,
    parts: Sequence[str],
    with_lstm: bool,
    seed: int,
    say: Callable[[str], None],
) -> Measured:
    """Runs what `parts` names (warnings, load). Raises BadTraces."""
    spikes = run.run(train, test, seed=seed, say=say) if "warnings" in parts else None
    race: list[load_race.Entry] = []
    if "load" in parts:
        race = load_race.run(train, test, with_lstm=with_lstm, seed=seed, say=say)
    document: dict[str, Any] = {
        "benchmark": "forecast",
        "train": str(train),
        "test": None if test is None else str(test),
        "seed": seed,
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "results": [outcome.row() for outcome in spikes.outcomes] if spikes else [],
        "development": [outcome.row() for outcome in spikes.development] if spikes else [],
        "strangers": [outcome.row() for outcome in spikes.strangers] if spikes else [],
        "load": [entry.row() for entry in race],
        "notes": spikes.notes if spikes else [],
        "took_s": spikes.took_s if spikes else None,
    }
    return Measured(document, spikes, race)


def write_warnings(measured: Measured, path: Path) -> None:
    """Each warning of the scored parts: trace, t (seconds, the trace's own clock), model, setting, score."""
    rows = [
        {
            "trace": outcome.case.name,
            "t": float(outcome.case.trace.t[window]),
            "model": outcome.model,
            "setting": outcome.setting.value,
            "score": float(outcome.scores[window]),
        }
        for outcome in (measured.spikes.outcomes if measured.spikes else [])
        for window in outcome.raised
    ]
    pd.DataFrame(rows, columns=["trace", "t", "model", "setting", "score"]).to_parquet(path, index=False)
