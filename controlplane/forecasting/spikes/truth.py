"""What really happened: the SLO of a trace, its spikes, its minor breaches, and the windows in which no warning is asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.spikes.trailing import Floats

SLO_FACTOR = 5.0  # x median p99 of the training part
SPIKE_S = 120.0
MERGE_S = 300.0
MINOR_S = 30.0

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """Spikes and minor breaches as half-open ranges of windows [start, stop); `blocked`: [N], p99 above the SLO or a spike
    under way."""

    slo_s: float
    spikes: tuple[tuple[int, int], ...]
    minor: tuple[tuple[int, int], ...]
    blocked: Bools

    @property
    def onsets(self) -> NDArray[np.int64]:
        return np.asarray([start for start, _ in self.spikes], dtype=np.int64)


def slo_of(ttft_p99: Floats) -> float:
    """Seconds: five times the median p99. NaN when there is no latency at all."""
    known = ttft_p99[np.isfinite(ttft_p99)]
    return SLO_FACTOR * float(np.median(known)) if len(known) else float("nan")


def truth_of(ttft_p99: Floats, slo_s: float, step_s: float = 15.0) -> Truth:
    """ttft_p99: [N] seconds, NaN where no request got its first token; such a window breaks no SLO."""
    above = np.nan_to_num(ttft_p99, nan=0.0) > slo_s
    runs = runs_of(above)
    long, short = round(SPIKE_S / step_s), round(MINOR_S / step_s)
    spikes: list[tuple[int, int]] = []
    for start, stop in runs:
        if stop - start < long:
            continue
        if spikes and start - spikes[-1][1] < round(MERGE_S / step_s):
            spikes[-1] = (spikes[-1][0], stop)
        else:
            spikes.append((start, stop))
    under_way = np.zeros(len(above), dtype=bool)
    for start, stop in spikes:
        under_way[start:stop] = True
    minor = tuple(run for run in runs if short <= run[1] - run[0] < long and not under_way[run[0]])
    return Truth(slo_s, tuple(spikes), minor, above | under_way)


def runs_of(flags: Bools) -> list[tuple[int, int]]:
    """Half-open ranges in which `flags` holds without a break."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
