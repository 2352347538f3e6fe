"""Ratios of interleaved measurements: repeat by repeat, since a machine that drifts pulls both of a pair along."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any] | None:
    """Median, least and greatest of ours[i] / theirs[i]; None where nothing can be compared."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=False) if other > 0]
    if not ratios:
        return None
    return {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
        "n": len(ratios),
    }


def ratios(rows: Sequence[Mapping[str, Any]], figures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each row of ours over each peer's row of the same load, and each pruned one of ours over the dense one of its precision.

    rows: `contender`, `engine`, `precision`, `pruning_threshold`, `concurrency`, and `by_repeat`: {figure: one value a repeat}.
    figures: name in `by_repeat` to the name of its ratio. `best_peer` marks, within a load and precision, the peer of the
    greatest median of the first figure (a rate: more is better).
    """
    first = next(iter(figures))
    compared: list[dict[str, Any]] = []
    for mine in (row for row in rows if row["engine"] == "trimtab"):
        peers = [
            row for row in rows if row["engine"] != "trimtab" and row.get("concurrency") == mine.get("concurrency")
        ]
        same = [row for row in peers if row["precision"] == mine["precision"]]
        best = max(same, key=lambda row: _median(row["by_repeat"][first]), default=None)
        peers += [row for row in rows if _is_dense_form(row, mine)]
        compared += [
            {
                "contender": mine["contender"],
                "peer": other["contender"],
                "concurrency": mine.get("concurrency"),
                "same_precision": other["precision"] == mine["precision"],
                "best_peer": other is best,
                **{
                    ratio: paired(mine["by_repeat"][figure], other["by_repeat"][figure])
                    for figure, ratio in figures.items()
                },
            }
            for other in peers
        ]
    return compared


def _is_dense_form(row: Mapping[str, Any], of: Mapping[str, Any]) -> bool:
    alike = all(row.get(key) == of.get(key) for key in ("engine", "precision", "concurrency"))
    return alike and bool(of.get("pruning_threshold")) and not row.get("pruning_threshold")


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
