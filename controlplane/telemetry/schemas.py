"""What clients see of a window of facts."""

from pydantic import Field

from controlplane.schemas import Out, UtcTime
from controlplane.telemetry.observation import Observation, Quality


class ObservationOut(Out):
    """One window. Rates per second, latencies in seconds over the window; absent (null) means not measured, never 0."""

    window_end: UtcTime
    window_s: float
    quality: Quality = Field(description="ok, partial (some nodes), stale (older than three scrapes) or missing")
    offered_rps: float | None = Field(description="arrivals per second, admitted or not")
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    requests: float | None = Field(description="requests that ended in the window")
    errors: float | None
    rejected: float | None
    running: float | None
    waiting: float | None
    kv_usage: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    itl_p50_s: float | None
    itl_p95_s: float | None
    e2e_p95_s: float | None
    queue_p95_s: float | None
    step_mean_s: float | None
    decode_rows_mean: float | None
    prefill_tokens_mean: float | None
    prefix_hit_ratio: float | None
    prompt_tokens_mean: float | None
    generation_tokens_mean: float | None
    nodes_up: int | None

    @classmethod
    def of(cls, seen: Observation) -> "ObservationOut":
        return cls.model_validate(seen)
