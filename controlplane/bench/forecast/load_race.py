"""The race of load forecasters: requests per minute, 1, 5 and 15 minutes ahead, by scaled error and by coverage of the bands."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlplane.bench.forecast.services import DAY_S, split_last_third
from controlplane.bench.forecast.traces import Floats, Trace, read_folder
from controlplane.forecasting.forecaster import CannotForecast
from controlplane.forecasting.load import bands, lstm
from controlplane.forecasting.load.methods import METHODS, Method
from controlplane.forecasting.load.mixture import DOUBT, DOUBTS, mix

PRODUCT = "trimtab"
STEP_S = 60.0
HORIZONS_S = (60.0, 300.0, 900.0)
_MIN_SCORED = 5  # minutes

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One method on one trace at one horizon. `actual` [N] and `quantiles` [N, L] of the scored minutes, requests per minute.

    mase: mean absolute error over that of the naive one-minute forecast on the minutes before. wql: weighted quantile loss over
    `bands.LEVELS`. fit_ms: of the fits and the pass over the trace that makes all forecasts; predict_ms: of
    the bands of one origin at this horizon alone, so not what a tick takes.
    """

    trace: str
    model: str
    horizon_s: float
    actual: Floats
    quantiles: Floats
    mase: float
    fit_ms: float
    predict_ms: float

    @property
    def wql(self) -> float:
        """Twice the summed pinball loss over the summed actual values, mean over levels (Gasthaus et al., 2019)."""
        miss = self.actual[:, None] - self.quantiles
        levels = np.asarray(bands.LEVELS)
        loss = np.maximum(levels * miss, (levels - 1) * miss)
        return float(2 * loss.sum(axis=0).mean() / max(np.abs(self.actual).sum(), 1e-9))

    def coverage(self, low: float, high: float) -> float:
        first, last = bands.LEVELS.index(low), bands.LEVELS.index(high)
        inside = (self.actual >= self.quantiles[:, first]) & (self.actual <= self.quantiles[:, last])
        return float(inside.mean())

    def row(self) -> dict[str, Any]:
        return {
            "trace": self.trace,
            "model": self.model,
            "horizon_s": self.horizon_s,
            "mase": self.mase,
            "wql": self.wql,
            "coverage_80": self.coverage(0.1, 0.9),
            "coverage_90": self.coverage(0.05, 0.95),
            "minutes": len(self.actual),
            "fit_ms": self.fit_ms,
            "predict_ms": self.predict_ms,
        }


def run(train_dir: Path, test_dir: Path | None, *, with_lstm: bool, seed: int, say: Say) -> list[Entry]:
    """Every trace of the test part, each method. Raises BadTraces."""
    train = read_folder(train_dir)
    test = read_folder(test_dir) if test_dir else []
    if test_dir is None:
        train, test = split_last_third(train)
    known = {trace.name: trace for trace in train}
    found: list[Entry] = []
    for trace in test:
        before = known.get(trace.name)
        whole = trace if before is None else before.then(trace)
        # Of a service never seen the first day, or half where it is shorter, is past.
        never = min(round(DAY_S / trace.step_s), len(trace) // 2)
        start = never if before is None else len(before)
        say(f"load of {trace.name}")
        found += race(whole, start, with_lstm=with_lstm, seed=seed)
    return found


def race(trace: Trace, start: int, *, with_lstm: bool = False, seed: int = 0) -> list[Entry]:
    """start: first window of the scored part. Nothing when less than five minutes can be scored."""
    per = max(1, round(STEP_S / trace.step_s))
    values, split = per_minute(trace["arrivals"], per, start)
    ahead = [round(horizon / STEP_S) for horizon in HORIZONS_S]
    if len(values) - split < _MIN_SCORED or split < 2:
        return []
    methods: dict[str, Method] = dict(METHODS)
    if with_lstm:
        methods["lstm"] = lstm.method(seed)
    made: dict[str, Floats] = {}
    fit_ms: dict[str, float] = {}
    for name, method in methods.items():
        began = time.perf_counter()
        try:
            made[name] = _forecasts(method, values, split, ahead)
        except CannotForecast:
            continue
        fit_ms[name] = 1000 * (time.perf_counter() - began)
    entries = []
    for h, steps in enumerate(ahead):
        landed = {name: _landed(forecasts[:, h], steps) for name, forecasts in made.items()}
        doubts = [DOUBTS.get(name, DOUBT) for name in landed]
        landed[PRODUCT] = mix(values, np.column_stack(list(landed.values())), steps, doubts, _rehearsal(split))
        for name, forecast in landed.items():
            fit = fit_ms.get(name, sum(fit_ms.values()))
            entries.append(_entry(trace.name, name, HORIZONS_S[h], values, forecast, steps, split, fit))
    return entries


def _forecasts(method: Method, values: Floats, split: int, ahead: Sequence[int]) -> Floats:
    """[N, H]. The scored part is forecast by a fit on all that lies before; the last third of the past by a fit on the
    rest of it, so that weights and bands rest on errors that the method could not learn by heart."""
    found = method(values, split, ahead)
    rehearsal = _rehearsal(split)
    try:
        before = method(values[:split], rehearsal, ahead)
    except CannotForecast:
        return found
    return np.concatenate([before, found[split:]])


def _rehearsal(split: int) -> int:
    return split * 2 // 3


def per_minute(arrivals: Floats, per: int, start: int) -> tuple[Floats, int]:
    """Counts per `per` windows, whole minutes counted back from `start`, and the index of the first scored one."""
    known = np.nan_to_num(arrivals)
    first = start % per
    whole = (len(known) - first) // per
    return known[first : first + whole * per].reshape(whole, per).sum(axis=1), (start - first) // per


def _landed(made_at: Floats, steps: int) -> Floats:
    """Row i: the forecast for i, made `steps` before."""
    return np.concatenate([np.full(min(steps, len(made_at)), np.nan), made_at[: max(len(made_at) - steps, 0)]])


def _entry(
    trace: str, model: str, horizon_s: float, values: Floats, forecast: Floats, steps: int, split: int, fit_ms: float
) -> Entry:
    # Errors grow with the load; the forecast's own size is known at the origin.
    scale = np.sqrt(np.maximum(np.nan_to_num(forecast), 1.0))
    began = time.perf_counter()
    quantiles = bands.track(values, forecast, steps, split, scale)
    predict_ms = 1000 * (time.perf_counter() - began) / max(len(values) - split, 1)
    usual = float(np.mean(np.abs(np.diff(values[:split]))))
    error = float(np.mean(np.abs(values[split:] - np.maximum(forecast[split:], 0.0))))
    return Entry(
        trace, model, horizon_s, values[split:], quantiles[split:], error / max(usual, 1e-9), fit_ms, predict_ms
    )
