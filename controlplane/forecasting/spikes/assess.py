"""What the newest window of a pool says of the next ten minutes: a calibrated probability, and why."""

from dataclasses import dataclass

import numpy as np

from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.features import features
from controlplane.forecasting.spikes.fluid import HORIZON_S
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.risk import SpikeRisk, cold_probability
from controlplane.forecasting.spikes.truth import Truth, truth_of

FLUID = "fluid"
# Fewer windows than this hold no trend, and of the newest ones some must be known.
_MIN_WINDOWS, _NEWEST = 20, 4


@dataclass(frozen=True, slots=True)
class Assessment:
    """`probability`: that a spike begins within 600 s. `load_ratio`: largest load / capacity on the expected path;
    `breach_s`: until a second of backlog, None when none comes; `model`: who says so. `blocked`: latency is above the SLO."""

    probability: float
    model: str
    load_ratio: float
    breach_s: float | None
    blocked: bool
    truth: Truth

    @property
    def lead_s(self) -> float:
        """Seconds until it is expected; where the fluid outlook sees no backlog, half the horizon."""
        return HORIZON_S / 2 if self.breach_s is None else self.breach_s

    def explanation(self) -> str:
        """For people: what the load does, and by when."""
        load = f"load {self.load_ratio:.2f} x capacity within {HORIZON_S / 60:.0f} min"
        if self.breach_s is None:
            return f"{load}, no backlog on the expected path"
        return f"{load}, a second of backlog in {self.breach_s / 60:.1f} min"


def assess(past: History, slo_s: float, model: SpikeRisk | None, costs: Costs | None) -> Assessment | None:
    """Of the newest window. None where too little is known: not measured is no risk and no calm.

    costs: the pool's own; else those the model learned. Without either there is no load to speak of.
    """
    known = costs or (model.costs if model else None)
    if known is None or len(past) < _MIN_WINDOWS or not np.isfinite(past.arrivals[-_NEWEST:]).any():
        return None
    if not np.isfinite(past.arrivals[-1]):
        return None  # the newest window is missing: hold
    found = features(past, slo_s, known)
    load_ratio = float(found["fluid_utilisation"][-1])
    if model is None:
        probability = float(cold_probability(found["fluid_utilisation"][-1:], past.replicas[-1:])[0])
    else:
        row = np.asarray([[found[name][-1] for name in model.names]])
        probability = float(model.of_rows(row)[0])
    if not (np.isfinite(probability) and np.isfinite(load_ratio)):
        return None
    breach_s = float(found["fluid_breach_1"][-1])
    truth = truth_of(past.ttft_p99_s, slo_s, past.step_s)
    return Assessment(
        probability=probability,
        model=FLUID if model is None else "learned",
        load_ratio=load_ratio,
        breach_s=breach_s if breach_s < HORIZON_S else None,
        blocked=bool(truth.blocked[-1]),
        truth=truth,
    )
