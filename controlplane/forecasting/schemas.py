"""What clients see of a forecast."""

from pydantic import Field

from controlplane.forecasting.models import ForecastRecord
from controlplane.forecasting.quality import HorizonQuality
from controlplane.schemas import Out, UtcTime


class ForecastPointOut(Out):
    """A moment ahead, in the metric's unit."""

    at: UtcTime
    q10: float
    q50: float
    q90: float


class ForecastOut(Out):
    """`model` "fluid" is load projected against capacity; `scores` is the past pinball loss per model (lower is better)."""

    id: str
    metric: str
    made_at: UtcTime
    model: str
    step_s: float
    points: list[ForecastPointOut]
    scores: dict[str, float]

    @classmethod
    def of(cls, row: ForecastRecord) -> "ForecastOut":
        return cls.model_validate(
            {
                "id": row.id,
                "metric": row.metric,
                "made_at": row.made_at,
                "model": row.model,
                "step_s": row.step_s,
                "points": row.points,
                "scores": row.scores,
            }
        )


class HorizonQualityOut(Out):
    """How right forecasts so far ahead have been. Errors are mean absolute ones, in the metric's unit."""

    horizon_s: float
    scored: int = Field(description="forecasts whose truth has been measured")
    coverage_80: float = Field(description="share of truths between q10 and q90; nominally 0.8")
    error: float = Field(description="of q50")
    last_value_error: float = Field(description="of the value known when the forecast was made, for comparison")
    bias: float = Field(description="mean of q50 minus truth")

    @classmethod
    def of(cls, found: HorizonQuality) -> "HorizonQualityOut":
        return cls.model_validate(
            {
                "horizon_s": found.horizon_s,
                "scored": found.scored,
                "coverage_80": found.coverage_80,
                "error": found.error,
                "last_value_error": found.last_value_error,
                "bias": found.bias,
            }
        )


class ForecastQualityOut(Out):
    """Forecasts of one metric made in [since, until], held against what came. Horizons without any are left out."""

    metric: str
    since: UtcTime
    until: UtcTime
    horizons: list[HorizonQualityOut]
