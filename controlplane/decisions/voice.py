"""By whose word of the load decisions go: the forecast's, or the newest value's while the forecast has not earned it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.objective import Load
from controlplane.decisions.policy import ForecastUse
from controlplane.forecasting.merit import AT_FIRST
from controlplane.forecasting.projection import Projection


class Voice(StrEnum):
    """forecast: decisions go by it. advises: they go by the newest value, and it may advise and keep things from being relaxed.
    newest: they go by the newest value alone."""

    FORECAST = "forecast"
    ADVISES = "advises"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Look:
    """What one voice makes of the horizon, under the settings in force."""

    load: Load
    projection: Projection

    def threatens(self, limit: float) -> bool:
        return self.projection.breach_probability >= limit


@dataclass(frozen=True, slots=True)
class Alone:
    """A threat that only the forecast sees: that the load reaches `feared_rps` within the horizon."""

    feared_rps: float
    likely_rps: float
    planned_rps: float
    breach_probability: float
    horizon_s: float
    model: str

    def to_json(self) -> dict[str, Any]:
        return {
            "feared_rps": round(self.feared_rps, 4),
            "likely_rps": round(self.likely_rps, 4),
            "planned_rps": round(self.planned_rps, 4),
            "breach_probability": round(self.breach_probability, 4),
            "horizon_s": self.horizon_s,
            "model": self.model,
        }


def voice_of(inputs: DecisionInputs) -> Voice | None:
    """None under rules that knew the forecast only."""
    if inputs.rules < 4:
        return None
    match inputs.policy.forecast.use:
        case ForecastUse.OFF:
            return Voice.NEWEST
        case ForecastUse.ALWAYS:
            return Voice.FORECAST
        case ForecastUse.EARNED:
            earned = AT_FIRST if inputs.merit is None else inputs.merit.may_act
            return Voice.FORECAST if earned else Voice.ADVISES


def alone_of(foreseen: Look, newest: Look, limit: float, capacity_rps: float) -> Alone | None:
    """The threat that the forecast sees and the newest value does not.

    What is feared is the load that breaks the pool, or what is foreseen where less does; where the band alone frightens, its end.
    """
    if not foreseen.threatens(limit) or newest.threatens(limit):
        return None
    load = foreseen.load
    grows = load.likely_rps > newest.load.likely_rps
    return Alone(
        feared_rps=min(capacity_rps, load.likely_rps if grows else load.planned_rps),
        likely_rps=load.likely_rps,
        planned_rps=load.planned_rps,
        breach_probability=foreseen.projection.breach_probability,
        horizon_s=load.horizon_s,
        model=load.forecast.model,
    )


def careful_of(one: Look, other: Look) -> Look:
    """The higher figures of both: what is relaxed must hold whoever is right."""
    load = replace(
        one.load,
        likely_rps=max(one.load.likely_rps, other.load.likely_rps),
        planned_rps=max(one.load.planned_rps, other.load.planned_rps),
    )
    worse = max((one, other), key=lambda look: look.projection.breach_probability)
    return Look(replace(load, forecast=worse.load.forecast), worse.projection)
