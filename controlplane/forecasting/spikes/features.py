"""What a spike announces itself by, free of the service's size: everything is per replica, relative to the SLO, or to its
own past.

A model that learned on some services can so be asked about one that it never saw. Row t of the matrix rests on windows 0..t only.
"""

from collections.abc import Mapping

import numpy as np

from controlplane.forecasting.spikes import trailing
from controlplane.forecasting.spikes.costs import Costs
from controlplane.forecasting.spikes.fluid import capacity_ahead, outlooks
from controlplane.forecasting.spikes.history import History
from controlplane.forecasting.spikes.trailing import Floats

_DAY_S = 86400.0
_STABLE_S = 600.0
_TARGET = 0.9
_LIFTS = (0.9, 1.0, 1.1, 1.25)


def features(past: History, slo_s: float, costs: Costs) -> Mapping[str, Floats]:
    """name -> [N]. slo_s: of the p99 time to first token, seconds."""
    wide = past.windows
    out: dict[str, Floats] = {}
    replicas = np.where(np.isfinite(past.replicas), np.maximum(past.replicas, 1.0), 1.0)
    load = costs.load(past.arrivals, past.prompt_tokens, past.generated_tokens, past.step_s)
    prefill = costs.per_prompt_token * trailing.zeroed(past.prompt_tokens) / past.step_s
    with np.errstate(invalid="ignore", divide="ignore"):
        signals = {
            "load": load / replicas,
            "prefill": prefill / replicas,
            "decode": trailing.zeroed(past.generated_tokens) / past.step_s / replicas / 1000,
            "running": past.running / replicas / 256,
            "kv": past.kv_usage,
            "p99": np.log(np.maximum(past.ttft_p99_s, 1e-3) / slo_s),
            "p50": np.log(np.maximum(past.ttft_p50_s, 1e-3) / slo_s),
            "queued": np.log1p(past.waiting / replicas),
        }
        size = np.log(np.maximum(past.prompt_tokens, 1) / np.maximum(past.arrivals, 1))
    for name, values in signals.items():
        out[f"{name}_now"] = values
        sums = trailing.Sums(values)
        means = {seconds: sums.mean(wide(seconds)) for seconds in (60, 180, 300, 600, 1800)}
        for seconds in (60, 300, 1800):
            out[f"{name}_mean_{seconds}"] = means[seconds]
        out[f"{name}_rise_180"] = means[60] - trailing.lag(means[60], wide(180))
        out[f"{name}_rise_600"] = means[180] - trailing.lag(means[180], wide(600))
        out[f"{name}_rise_1800"] = means[300] - trailing.lag(means[600], wide(1800))
        for seconds in (300, 1200, 3600):
            out[f"{name}_max_{seconds}"] = trailing.maximum(values, wide(seconds))
    arrivals = trailing.zeroed(past.arrivals)
    for name, values in (("arrivals", arrivals), ("work", load), ("tokens", trailing.zeroed(past.prompt_tokens))):
        sums, spread = trailing.Sums(values), trailing.Spread(values)
        usual = np.maximum(sums.mean(wide(3600)), 1e-9)
        for seconds in (60, 300, 900):
            out[f"{name}_vs_hour_{seconds}"] = sums.mean(wide(seconds)) / usual
        for seconds in (300, 1800):
            # Burstiness: how far counts of a window scatter around their mean.
            out[f"{name}_cv_{seconds}"] = spread.std(wide(seconds)) / np.maximum(sums.mean(wide(seconds)), 1e-9)
        day = wide(_DAY_S)
        mean5, mean10 = sums.mean(wide(300)), sums.mean(wide(600))
        yesterday = trailing.lag(mean5, day)
        # What the next minutes brought a day ago, relative to that moment: the season, without a clock.
        out[f"{name}_season_rise"] = trailing.lag(mean10, day - wide(600)) / np.maximum(yesterday, 1e-9)
        out[f"{name}_vs_yesterday"] = mean5 / np.maximum(yesterday, 1e-9)
        out[f"{name}_season_max"] = trailing.lag(
            trailing.maximum(sums.mean(wide(60)), wide(600)), day - wide(600)
        ) / np.maximum(yesterday, 1e-9)
    out["size_mean_60"] = trailing.mean(size, wide(60)) - trailing.mean(size, wide(3600))
    out["size_cv"] = trailing.std(size, wide(600))
    out |= _scaling(past, load, replicas)
    out |= _pressure(past, load, prefill, replicas)
    out |= _trouble(past, slo_s)
    backlog_s = trailing.zeroed(past.waiting) / np.maximum(arrivals, 1) * past.step_s
    seen_at = outlooks(load, past.replicas, past.desired, backlog_s, past.step_s, _LIFTS)
    for lift, seen in zip(_LIFTS, seen_at, strict=True):
        out[f"fluid_backlog_{lift:g}"] = np.log1p(seen.backlog_s)
        out[f"fluid_breach_{lift:g}"] = seen.breach_s
        if lift == 1.0:
            out["fluid_utilisation"], out["fluid_now"], out["fluid_coming"] = seen.utilisation, seen.now, seen.coming
    return out


def _scaling(past: History, load: Floats, replicas: Floats) -> dict[str, Floats]:
    """Where the autoscaler stands: what is on its way, how near the next move is, what it has just taken away."""
    wide = past.windows
    desired = np.where(np.isfinite(past.desired), past.desired, replicas)
    sums = trailing.Sums(load)
    five = sums.mean(wide(300))
    out = {
        "replicas": np.log(replicas),
        "scaling_pending": desired / replicas,
        "scaling_slack": (desired - five) / replicas,
        "scaling_since_up": trailing.since(np.diff(desired, prepend=desired[0]) > 0, wide(1800)),
        "scaling_since_down": trailing.since(np.diff(desired, prepend=desired[0]) < 0, wide(1800)),
        "scaling_from_max": desired / trailing.maximum(desired, wide(3600)),
        "load_vs_max_600": sums.mean(wide(60)) / np.maximum(trailing.maximum(five, wide(600)), 1e-9),
    }
    now = sums.mean(wide(60))
    for ahead in (60, 120, 180, 240):
        coming = capacity_ahead(replicas, desired, past.step_s, ahead)
        out[f"load_vs_capacity_{ahead}"] = now / np.maximum(coming, 1e-9)
    for ahead in (120, 240, 360, 480):
        # A scale-down waits for a stabilisation window: what is still held up only by older peaks will leave as they age out.
        held = trailing.maximum(five, wide(_STABLE_S - ahead))
        out[f"held_{ahead}"] = held / desired
        out[f"load_vs_held_{ahead}"] = now / np.maximum(np.fmin(np.ceil(held / _TARGET), desired), 1.0)
    return out


def _pressure(past: History, load: Floats, prefill: Floats, replicas: Floats) -> dict[str, Floats]:
    """How load and what is in flight build up together, and where their straight lines lead."""
    wide = past.windows
    out = {}
    running = trailing.zeroed(past.running) / replicas / 256
    relative = load / replicas
    level, flow, held = trailing.Sums(relative), trailing.Sums(prefill / replicas), trailing.Sums(running)
    for seconds in (180, 300, 600, 1200):
        slope = trailing.slope(relative, wide(seconds))
        out[f"slope_{seconds}"] = slope * wide(300)
        out[f"line_{seconds}"] = level.mean(wide(seconds)) + slope * (wide(seconds) / 2 + wide(240))
    for seconds in (15, 60, 180):
        out[f"pressure_{seconds}"] = flow.mean(wide(seconds)) * (1 + held.mean(wide(seconds)))
    growth = np.diff(trailing.zeroed(past.waiting), prepend=0.0) / replicas
    out["queue_growth_60"] = trailing.mean(growth, wide(60))
    out["over_share_300"] = trailing.mean((relative > 1.0).astype(float), wide(300))
    out["over_share_900"] = trailing.mean((relative > 1.0).astype(float), wide(900))
    out["in_flight_s"] = trailing.zeroed(past.running) / np.maximum(
        trailing.mean(trailing.zeroed(past.arrivals), wide(300)), 1
    )
    out["generated_per_running"] = trailing.mean(trailing.zeroed(past.generated_tokens), wide(60)) / np.maximum(
        trailing.mean(trailing.zeroed(past.running), wide(60)), 1
    )
    return out


def _trouble(past: History, slo_s: float) -> dict[str, Floats]:
    """How the service has fared of late."""
    wide = past.windows
    p99 = trailing.zeroed(past.ttft_p99_s)
    out = {}
    for name, ratio in (("half", 0.5), ("full", 1.0)):
        above = (p99 > ratio * slo_s).astype(float)
        out[f"above_{name}_3600"] = trailing.mean(above, wide(3600))
        out[f"above_{name}_since"] = trailing.since(above > 0, wide(7200))
    out["above_full_day"] = trailing.mean((p99 > slo_s).astype(float), wide(_DAY_S))
    out["p99_vs_hour"] = np.log(
        np.maximum(trailing.mean(past.ttft_p99_s, wide(60)), 1e-3)
        / np.maximum(trailing.mean(past.ttft_p99_s, wide(3600)), 1e-3)
    )
    return out
