"""What clients see of a forecast, and of warnings of spikes."""

from datetime import datetime

from pydantic import Field

from controlplane.forecasting.merit import Merit, said
from controlplane.forecasting.models import ForecastRecord, SpikeWarningRecord
from controlplane.forecasting.quality import HorizonQuality
from controlplane.forecasting.spikes.alarm import Verdict
from controlplane.forecasting.spikes.quality import WarningQuality
from controlplane.forecasting.spikes.thresholds import Setting
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


class SpikeWarningOut(Out):
    """A warning that latency would break the SLO, and how it turned out: open, right (60-600 s ahead), late, neutral
    (a minor breach came), false, unknown (not measured)."""

    id: int
    setting: Setting
    at: UtcTime
    probability: float = Field(description="that a spike begins within 600 s")
    threshold: float
    model: str = Field(description="fluid: no model has been trained yet")
    lead_s: float = Field(description="expected then, in seconds")
    load_ratio: float = Field(description="largest load / capacity foreseen")
    explanation: str
    verdict: Verdict
    onset_at: UtcTime | None = Field(description="when the spike came")
    ended_at: UtcTime | None

    @classmethod
    def of(cls, row: SpikeWarningRecord) -> "SpikeWarningOut":
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields})


class WarningQualityOut(Out):
    """How right the warnings of one setting have been, by the rules of docs/benchmarks/forecast.md. Null: nothing to judge by."""

    setting: Setting
    warnings: int
    right: int = Field(description="a spike began 15-600 s later")
    late: int = Field(description="of those, less than 60 s later")
    false: int
    neutral: int = Field(description="no spike, but a minor breach")
    unjudged: int = Field(description="still open, or what followed was not measured")
    spikes: int
    foreseen: int = Field(description="spikes with a warning 60-600 s ahead")
    precision: float | None = Field(description="right / (right + false)")
    precision_interval: tuple[float, float] | None = Field(description="95 %, Wilson")
    recall: float | None
    recall_interval: tuple[float, float] | None = Field(description="95 %, Wilson")
    lead_s: float | None = Field(description="median of the spikes foreseen")
    false_per_day: float | None
    brier: float | None = Field(description="mean squared miss of the probability stated")

    @classmethod
    def of(cls, found: WarningQuality) -> "WarningQualityOut":
        counts = found.counts
        return cls(
            setting=found.setting,
            warnings=found.warnings,
            right=found.right,
            late=counts[Verdict.LATE],
            false=counts[Verdict.FALSE],
            neutral=counts[Verdict.NEUTRAL],
            unjudged=counts[Verdict.OPEN] + counts[Verdict.UNKNOWN],
            spikes=found.spikes,
            foreseen=found.foreseen,
            precision=found.precision,
            precision_interval=found.precision_interval,
            recall=found.recall,
            recall_interval=found.recall_interval,
            lead_s=found.lead_s,
            false_per_day=found.false_per_day,
            brier=found.brier,
        )


class ForecastMeritOut(Out):
    """Whether forecasts of the load have earned the right to act, which counts where the policy's `forecast.use` is earned. Sums
    over about the last hundred horizons, held against planning on the newest load alone. Null: nothing to judge by."""

    at: UtcTime = Field(description="when it was last kept: every 20 ticks, and at once when the verdict turns")
    may_act: bool
    truths: int = Field(description="horizons whose truth is known; below 20 there is no verdict")
    cost_ratio: float | None = Field(
        description="cost of planning on forecasts / on the newest load; below 1 is better"
    )
    loss_ratio: float | None = Field(description="the same of pinball loss at 50 % and 90 %")
    threats: int = Field(description="that only the forecast saw, and that were judged")
    precision: float | None = Field(description="share of late ones of them in which the load came")
    explanation: str

    @classmethod
    def of(cls, at: datetime, merit: Merit) -> "ForecastMeritOut":
        return cls(
            at=at,
            may_act=merit.may_act,
            truths=merit.truths,
            cost_ratio=merit.cost_ratio,
            loss_ratio=merit.loss_ratio,
            threats=merit.threats_seen,
            precision=merit.precision,
            explanation=said(merit),
        )


class ForecastQualityOut(Out):
    """Forecasts of one metric made in [since, until], held against what came. Horizons without any are left out. `warnings`: of
    spikes, over the last 14 days, by setting. `merit`: of the load; null for other metrics, and before anything was kept."""

    metric: str
    since: UtcTime
    until: UtcTime
    horizons: list[HorizonQualityOut]
    warnings: list[WarningQualityOut]
    merit: ForecastMeritOut | None
