"""Figures of a benchmark: summaries of samples, and the machine they were taken on."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def summary_ms(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, median, 95th and 99th percentile in milliseconds, with the number of samples; None where there are none."""
    if not seconds:
        return {"mean": None, "p50": None, "p95": None, "p99": None, "n": 0}
    ordered = sorted(seconds)
    return {
        "mean": round(1000 * statistics.fmean(ordered), 3),
        "p50": round(1000 * quantile(ordered, 0.5), 3),
        "p95": round(1000 * quantile(ordered, 0.95), 3),
        "p99": round(1000 * quantile(ordered, 0.99), 3),
        "n": len(ordered),
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the closest ranks (Hyndman and Fan, Sample Quantiles, 1996, type 7)."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The same figure over the repeats."""
    return {
        "values": [round(value, 3) for value in values],
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "stdev": round(statistics.stdev(values), 3) if len(values) > 1 else None,
    }


def machine() -> dict[str, Any]:
    """The machine this runs on, and how busy it was: a figure from a shared machine means little without."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_mb": memory_kb // 1024,
        "load_average_1m": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
    """What measured."""
    return {"trimtab": metadata.version("trimtab"), "python": platform.python_version()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
