"""The telemetry of one service, as the features read it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """Evenly spaced windows of `step_s` seconds, oldest first, [N] each; NaN where not measured.

    Counts per window: arrivals, prompt_tokens, generated_tokens, dropped. Gauges at its end: replicas in service, replicas wanted
    (`desired`), running, waiting, kv_usage (0 to 1). Latencies in seconds over the trailing minute: ttft_p50_s, ttft_p99_s.
    """

    step_s: float
    arrivals: Floats
    prompt_tokens: Floats
    generated_tokens: Floats
    dropped: Floats
    replicas: Floats
    desired: Floats
    running: Floats
    waiting: Floats
    kv_usage: Floats
    ttft_p50_s: Floats
    ttft_p99_s: Floats

    def windows(self, seconds: float) -> int:
        """So many windows are `seconds` long; one at least."""
        return max(1, round(seconds / self.step_s))

    def __len__(self) -> int:
        return len(self.arrivals)
