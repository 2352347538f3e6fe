"""What a request costs, in replica-seconds, learned from when the autoscaler asked for more.

An autoscaler of the usual kind wants `load / target` replicas, and the load is a sum of costs: so much per prompt token, per
generated token and per request. Regressing what it wanted on what came gives those costs without a profile. Where nothing scales,
the profile's own costs (or those of other services on the same hardware) serve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from controlplane.forecasting.spikes import trailing
from controlplane.forecasting.spikes.trailing import Floats

_SMOOTH_S = 300.0
_MIN_MOVES = 30


@dataclass(frozen=True, slots=True)
class Costs:
    """Replicas that one unit per second asks for: of prompt tokens, of generated tokens, of requests."""

    per_prompt_token: float
    per_generated_token: float
    per_request: float

    def load(self, arrivals: Floats, prompt: Floats, generated: Floats, step_s: float) -> Floats:
        """[N] replicas asked for by the counts of each window of `step_s` seconds."""
        tokens = self.per_prompt_token * np.nan_to_num(prompt) + self.per_generated_token * np.nan_to_num(generated)
        load: Floats = (tokens + self.per_request * np.nan_to_num(arrivals)) / step_s
        return load


def fit_costs(services: Sequence[tuple[Floats, Floats, Floats, Floats]], step_s: float) -> Costs | None:
    """services: (arrivals, prompt tokens, generated tokens, replicas wanted) each [N]. None where scaling says too little."""
    rows: list[NDArray[np.float64]] = []
    wanted: list[Floats] = []
    width = max(1, round(_SMOOTH_S / step_s))
    for arrivals, prompt, generated, desired in services:
        counts = np.column_stack([trailing.mean(np.nan_to_num(x), width) for x in (prompt, generated, arrivals)])
        rose = np.concatenate([[False], np.diff(np.nan_to_num(desired)) > 0])
        rows.append(counts[rose] / step_s)
        wanted.append(desired[rose])
    facts, target = np.concatenate(rows), np.concatenate(wanted)
    if len(target) < _MIN_MOVES:
        return None
    # Each rise weighs alike in relative terms: a service of 20 replicas must not drown one of 3.
    scale = np.maximum(facts.mean(axis=0), 1e-12)
    found, _ = nnls(facts / scale / target[:, None], np.ones(len(target)))
    prompt_cost, generated_cost, request_cost = (float(x) for x in found / scale)
    return Costs(prompt_cost, generated_cost, request_cost)
