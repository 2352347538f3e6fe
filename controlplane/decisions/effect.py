"""What came of a decision: latencies expected at the load that came, beside those that were measured, 5, 15 and 60 minutes on.

The expectation is the recorded model's, asked about the load of the windows that it is held against: a forecast of the load that
was off is no fault of the change. What the settings before would have come to at that load stands beside it. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, median

from controlplane.decisions.decision import DecisionInputs, Predicted
from controlplane.decisions.objective import predict
from controlplane.decisions.optimizer import level_of
from controlplane.decisions.situation import Situation, assess
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings

AFTER_S = (300.0, 900.0, 3600.0)
_LEAST_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Came:
    """One metric over a stretch. `realised` is the median window's; None where nothing was measured."""

    metric: str
    without: float
    expected: float
    realised: float | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when the change was in force everywhere until `after_s` later, or until the next change if that came first."""

    after_s: float
    complete: bool
    windows: int
    offered_rps: float
    came: tuple[Came, ...]


def effect_of(
    inputs: DecisionInputs, chosen: EngineSettings, windows: Sequence[Observation], start: datetime, until: datetime
) -> tuple[Stretch, ...]:
    """windows: the pool's, oldest first. until: now, or when the next change began. Stretches without enough windows are left
    out, and so are those that tell no more than the one before."""
    situation = assess(inputs)
    if isinstance(situation, str):
        return ()
    found: list[Stretch] = []
    for after_s in AFTER_S:
        end = start + timedelta(seconds=after_s)
        seen = [
            window
            for window in windows
            if window.usable
            and window.window_end - timedelta(seconds=window.window_s) >= start
            and window.window_end <= min(end, until)
        ]
        if len(seen) < _LEAST_WINDOWS or (found and not found[-1].complete):
            continue
        found.append(_stretch(inputs, situation, chosen, seen, after_s, complete=until >= end))
    return tuple(found)


def _stretch(
    inputs: DecisionInputs,
    situation: Situation,
    chosen: EngineSettings,
    seen: Sequence[Observation],
    after_s: float,
    *,
    complete: bool,
) -> Stretch:
    rate = fmean(window.offered_rps or 0.0 for window in seen)
    before = _predicted(inputs, situation, inputs.settings, rate)
    after = _predicted(inputs, situation, chosen, rate)
    came = []
    for metric, fact in _FACTS:
        values = [value for window in seen if (value := getattr(window, fact)) is not None]
        if before is not None and after is not None:
            realised = median(values) if values else None
            came.append(Came(metric, getattr(before, metric), getattr(after, metric), realised))
    return Stretch(after_s, complete, len(seen), rate, tuple(came))


_FACTS = (
    ("ttft_p95_s", "ttft_p95_s"),
    ("itl_p95_s", "itl_p95_s"),
    ("throughput_tokens_per_s", "generation_tokens_per_s"),
)


def _predicted(inputs: DecisionInputs, situation: Situation, settings: EngineSettings, rate: float) -> Predicted | None:
    level = level_of(settings, inputs.settings, inputs.policy, inputs.nodes)
    model = situation.model_for(settings, level.step_time_ratio or 1.0)
    return None if model is None else predict(model, rate, situation.load, level.quality_loss_ratio or 0.0)
