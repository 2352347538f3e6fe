"""Traces of a small made-up fleet: surges, a queue that they build, an autoscaler that comes late. For tests, never for
figures."""

import numpy as np
import pandas as pd

STEP_S = 15.0


def made_up(windows: int, seed: int = 0, scale: float = 1.0, surge_every: int = 240, rise: int = 10) -> pd.DataFrame:
    """Columns of a metrics file. Every `surge_every` windows or so the load rises over `rise` windows and passes the capacity."""
    rng = np.random.default_rng(seed)
    base = np.full(windows, 20.0)
    for start in range(surge_every, windows - 40, surge_every):
        begin = start + int(rng.integers(-20, 20))
        height = rng.uniform(8, 22)
        for i in range(begin, min(begin + 20 + rise, windows)):
            base[i] += height * min(1.0, (i - begin) / rise)
    arrivals = rng.poisson(base * scale).astype(float)
    tokens = arrivals * 400.0
    capacity, backlog = 26.0 * scale, 0.0
    desired, replicas = np.full(windows, 2.0), np.full(windows, 2.0)
    waiting, p99 = np.zeros(windows), np.zeros(windows)
    for i in range(windows):
        mean = arrivals[max(0, i - 19) : i + 1].mean()
        desired[i] = max(2.0, np.ceil(2 * mean / (0.85 * capacity)))
        replicas[i] = min(desired[max(0, i - 16)], desired[i]) if i else 2.0
        served = capacity * replicas[i] / 2
        backlog = max(0.0, backlog + arrivals[i] - served)
        waiting[i] = backlog
        p99[i] = 0.3 + 15.0 * backlog / served + 0.1 * rng.random() + 0.2 * (arrivals[i] / served) ** 4
    return pd.DataFrame(
        {
            "t": STEP_S * np.arange(1, windows + 1),
            "arrivals": arrivals,
            "input_tokens": tokens,
            "decoded_tokens": arrivals * 100.0,
            "replicas": replicas,
            "desired": desired,
            "running": arrivals * 2.0,
            "waiting": waiting,
            "kv_usage": np.clip(arrivals / 60 / scale, 0, 1),
            "dropped": np.zeros(windows),
            "ttft_p50": 0.5 * p99,
            "ttft_p99": p99,
        }
    )
