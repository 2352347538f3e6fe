"""A made-up trace (synthetic_traces) as windows of a pool: what the controller would have observed of such a fleet."""

from datetime import datetime, timedelta

import numpy as np

from controlplane.telemetry.observation import Observation, Quality
from tests.support.synthetic_traces import STEP_S, made_up

SLO_S = 1.5
_NODES = 10  # for each replica of the made-up fleet, and as many times its load


def windows(count: int, start: datetime, seed: int = 0, surge_every: int = 240, rise: int = 24) -> list[Observation]:
    """Oldest first. Steps of 42 ms + 9 ms a row + 1.3 ms a prompt token: by these a node of
    64 rows carries 10 requests a window; the made-up fleet queues from 13 on, as nodes do whose steps are never quite full."""
    trace = made_up(count, seed=seed, scale=_NODES, surge_every=surge_every, rise=rise)
    rng = np.random.default_rng(seed)
    found = []
    columns = {name: trace[name].to_numpy(dtype=float) for name in trace.columns}
    for i in range(count):
        row = {name: float(values[i]) for name, values in columns.items()}
        nodes = round(row["replicas"] * _NODES)
        rows = row["running"] / nodes
        prefill = row["input_tokens"] / STEP_S / nodes * 0.05 * rng.uniform(0.8, 1.2)
        found.append(
            Observation(
                window_end=start + timedelta(seconds=i * STEP_S),
                window_s=STEP_S,
                quality=Quality.OK,
                offered_rps=row["arrivals"] / STEP_S,
                prompt_tokens_per_s=row["input_tokens"] / STEP_S,
                generation_tokens_per_s=row["decoded_tokens"] / STEP_S,
                running=row["running"],
                waiting=row["waiting"],
                kv_usage=row["kv_usage"],
                ttft_p50_s=row["ttft_p50"],
                ttft_p95_s=row["ttft_p99"],
                step_mean_s=0.0416 + 0.00915 * rows + 0.0013 * prefill,
                decode_rows_mean=rows,
                prefill_tokens_mean=prefill,
                nodes_up=nodes,
            )
        )
    return found
