"""What clients see of a forecast."""

from controlplane.forecasting.models import ForecastRecord
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
