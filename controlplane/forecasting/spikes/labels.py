"""What a model is taught to foresee: how near the next minutes come to a spike, and whether one begins in them.

Labels of window t look at later windows. They are for training only; windows whose label would reach past what is known
have none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.forecasting.spikes.trailing import Floats

NEAR_S, FAR_S = 60.0, 600.0
SUSTAINED_S = 120.0
# Beyond these the exact value says nothing more about the next spike, and would only pull the fit.
_LOW, _HIGH = -2.5, 2.0


@dataclass(frozen=True, slots=True)
class Labels:
    """[N] each; NaN at the end, where the future is not known yet.

    worst: largest log(p99 / SLO) in the next 60-600 s. sustained: the same for the least value over 120 s. onset: 1.0
    where a spike begins in the next 600 s.
    """

    worst: Floats
    sustained: Floats
    onset: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.worst)


def label(ttft_p99_s: Floats, slo_s: float, onsets: NDArray[np.int64], step_s: float) -> Labels:
    """onsets: first windows of the spikes. A window without a first token (NaN) counts as quiet."""
    near, far, sustain = (round(seconds / step_s) for seconds in (NEAR_S, FAR_S, SUSTAINED_S))
    ratio = np.log(np.maximum(np.nan_to_num(ttft_p99_s), 1e-3) / slo_s)
    held = _ahead(ratio, 0, sustain - 1, np.minimum, np.inf)
    begins = np.zeros(len(ratio))
    begins[onsets] = 1.0
    unknown = np.arange(len(ratio)) >= len(ratio) - far
    worst, sustained = (
        np.where(unknown, np.nan, _ahead(values, near, far, np.maximum, -np.inf)) for values in (ratio, held)
    )
    onset = np.where(unknown, np.nan, _ahead(begins, 1, far, np.maximum, -np.inf))
    return Labels(np.clip(worst, _LOW, _HIGH), np.clip(sustained, _LOW, _HIGH), onset)


def _ahead(values: Floats, first: int, last: int, best: np.ufunc, nothing: float) -> Floats:
    """`best` of the values `first` to `last` windows later, both included."""
    out = np.full(len(values), nothing)
    for by in range(first, last + 1):
        later = np.full(len(values), nothing)
        later[: len(values) - by] = values[by:]
        out = best(out, later)
    return out
