"""What every warning model has to beat: rules of one line on one series, and the fluid outlook without training.

Each maps a trace and its SLO to a score per window, of past and present only. None needs training; only their thresholds do.
"""

from collections.abc import Callable, Mapping

import numpy as np

from controlplane.bench.forecast.services import Case, history_of
from controlplane.bench.forecast.traces import Floats
from controlplane.forecasting.spikes import trailing
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.features import features

Baseline = Callable[[Case, Costs], Floats]

_HALF_LIFE_WINDOWS = 2.0
# Damped Holt on log p99: weights usual for 15 s data (Gardner, 1985), 5 min ahead.
_ALPHA, _BETA, _PHI, _AHEAD = 0.3, 0.05, 0.9, 20


def persistence(case: Case, costs: Costs) -> Floats:
    """The p99 now."""
    return np.nan_to_num(case.trace["ttft_p99"]) / case.truth.slo_s


def ewma(case: Case, costs: Costs) -> Floats:
    """The p99, smoothed."""
    return trailing.smoothed(case.trace["ttft_p99"], _HALF_LIFE_WINDOWS) / case.truth.slo_s


def holt(case: Case, costs: Costs) -> Floats:
    """log p99 five minutes ahead by damped Holt."""
    return damped_holt(np.log(np.maximum(np.nan_to_num(case.trace["ttft_p99"]), 1e-3) / case.truth.slo_s), _AHEAD)


def queue(case: Case, costs: Costs) -> Floats:
    """Requests that wait now."""
    return np.nan_to_num(case.trace["waiting"])


def fluid(case: Case, costs: Costs) -> Floats:
    """Load trend against the capacity that is coming: the largest load / capacity ahead."""
    found: Floats = features(history_of(case.trace), case.truth.slo_s, costs)["fluid_utilisation"]
    return found


BASELINES: Mapping[str, Baseline] = {
    "p99_persistence": persistence,
    "p99_ewma": ewma,
    "p99_holt": holt,
    "waiting_queue": queue,
    "fluid": fluid,
}


def damped_holt(values: Floats, ahead: int) -> Floats:
    """[N] forecast `ahead` windows on from each window."""
    reach = sum(_PHI**k for k in range(1, ahead + 1))
    level, trend = float(values[0]), 0.0
    out = np.empty(len(values))
    for i, value in enumerate(values.tolist()):
        foreseen = level + _PHI * trend
        risen = _ALPHA * value + (1 - _ALPHA) * foreseen
        trend = _BETA * (risen - level) + (1 - _BETA) * _PHI * trend
        level = risen
        out[i] = level + reach * trend
    return out
