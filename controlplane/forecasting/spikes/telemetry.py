"""From a pool's windows of facts to the history that the features read, and what a request costs there.

Live telemetry differs from a trace in three things: latency is the p95 that the SLO speaks of, nodes in service stand for
replicas (none is known to be on its way unless the pool says so), and costs come from measured steps where nothing
scales by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from statistics import median

import numpy as np
from scipy.optimize import nnls

from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.trailing import Floats
from controlplane.telemetry.observation import Observation

# The longest look back of a feature that is used live is two hours (the rest of a day has no place in a tick of milliseconds).
LIVE_S = 7200.0 + 300.0
_MIN_WINDOWS = 40
# Steps that differ by less than this in what they hold tell nothing of what each part costs.
_MIN_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Facts:
    """One window as numbers: NaN where not measured. Counts are of the window, gauges at its end."""

    arrivals: float
    prompt_tokens: float
    generated_tokens: float
    dropped: float
    replicas: float
    desired: float
    running: float
    waiting: float
    kv_usage: float
    ttft_p50_s: float
    ttft_p99_s: float


FACTS = tuple(field.name for field in fields(Facts))


def facts_of(seen: Observation, step_s: float) -> Facts:
    """Of one window; counts are of `step_s`, which a window that overlaps the next one is longer than.

    The tail is the p95, of which the SLO is. NaN throughout where the window is not usable.
    """
    known = seen if seen.usable else Observation(seen.window_end, seen.window_s, seen.quality)
    per = step_s
    computed = known.prompt_tokens_per_s
    if computed is not None and known.prefix_hit_ratio is not None:
        computed *= 1.0 - min(1.0, known.prefix_hit_ratio)  # what lies in the cache costs no step
    nodes = _number(known.nodes_up)
    return Facts(
        arrivals=_number(known.offered_rps) * per,
        prompt_tokens=_number(computed) * per,
        generated_tokens=_number(known.generation_tokens_per_s) * per,
        dropped=_number(known.rejected) * per / seen.window_s,
        replicas=nodes if nodes >= 1 else float("nan"),
        desired=nodes if nodes >= 1 else float("nan"),
        running=_number(known.running),
        waiting=_number(known.waiting),
        kv_usage=_number(known.kv_usage),
        ttft_p50_s=_number(known.ttft_p50_s),
        ttft_p99_s=_number(known.ttft_p95_s),
    )


def history_of(windows: Sequence[Observation]) -> History | None:
    """Windows, oldest first, on an even grid that ends with the newest; what is missing in between is NaN. None without two."""
    if len(windows) < 2:
        return None
    gaps = [(b.window_end - a.window_end).total_seconds() for a, b in pairwise(windows)]
    step_s = median(gaps)
    if step_s <= 0:
        return None
    end = windows[-1].window_end
    slots = {round((end - seen.window_end).total_seconds() / step_s): seen for seen in windows}
    count = max(slots) + 1
    table = np.full((len(FACTS), count), np.nan)
    for slot, seen in slots.items():
        facts = facts_of(seen, step_s)
        table[:, count - 1 - slot] = [getattr(facts, name) for name in FACTS]
    return History(step_s, *(row for row in table))


def costs_of_steps(windows: Sequence[Observation], full_rows: float) -> Costs | None:
    """Replica-seconds per token from measured steps: `step = base + row * decoding + token * prefilled`, non-negative.

    full_rows: sequences that a node decodes at most at once; a full step shares its base among so many tokens. None while the
    windows are too few or too alike to tell the parts apart.
    """
    rows = [
        (seen.step_mean_s, seen.decode_rows_mean, seen.prefill_tokens_mean)
        for seen in windows
        if seen.usable
        and seen.step_mean_s
        and seen.decode_rows_mean is not None
        and seen.prefill_tokens_mean is not None
    ]
    if len(rows) < _MIN_WINDOWS:
        return None
    table: Floats = np.asarray(rows, dtype=float)
    took, held = table[:, 0], table[:, 1:]
    spread = held.std(axis=0) / np.maximum(held.mean(axis=0), 1e-9)
    if not np.isfinite(table).all() or spread.max() < _MIN_SPREAD:
        return None
    facts = np.column_stack([np.ones(len(took)), held])
    scale = np.maximum(facts.mean(axis=0), 1e-12)
    found, _ = nnls(facts / scale / took[:, None], np.ones(len(took)))
    base, row, token = (float(x) for x in found / scale)
    per_generated = row + base / max(full_rows, 1.0)
    return Costs(token, per_generated, 0.0) if token + per_generated > 0 else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
