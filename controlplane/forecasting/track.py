"""Forecasts beside what came: of each moment what was foreseen so long before, by which model, and what it then was. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.forecasting.quality import Foreseen, Truth
from controlplane.telemetry.observation import Observation


@dataclass(frozen=True, slots=True)
class Named:
    """A forecast with the model that made it."""

    model: str
    foreseen: Foreseen


@dataclass(frozen=True, slots=True)
class Tracked:
    """In the metric's unit; `came` is None where nothing was measured, or not yet."""

    at: datetime
    model: str
    q10: float
    q50: float
    q90: float
    came: float | None


@dataclass(frozen=True, slots=True)
class Stint:
    """A stretch in which one model won the race, without a break: forecasts made from `since` to `until`."""

    model: str
    since: datetime
    until: datetime
    forecasts: int


def track(
    forecasts: Sequence[Named], observations: Sequence[Observation], metric: str, horizon_s: float
) -> list[Tracked]:
    """forecasts, observations: oldest first. Forecasts that do not reach so far are left out."""
    truth = Truth(observations, metric)
    found = []
    for forecast in forecasts:
        made = forecast.foreseen
        steps = round(horizon_s / made.step_s)
        if not 1 <= steps <= len(made.points):
            continue
        at = made.made_at + timedelta(seconds=steps * made.step_s)
        point = made.points[steps - 1]
        came = truth.near(at, made.step_s / 2)
        found.append(Tracked(at, forecast.model, point["q10"], point["q50"], point["q90"], came))
    return found


def stints(forecasts: Sequence[tuple[str, datetime]]) -> list[Stint]:
    """(model, made at), oldest first; stints newest first."""
    found: list[Stint] = []
    for model, made_at in forecasts:
        if found and found[-1].model == model:
            found[-1] = Stint(model, found[-1].since, made_at, found[-1].forecasts + 1)
        else:
            found.append(Stint(model, made_at, made_at, 1))
    return found[::-1]
