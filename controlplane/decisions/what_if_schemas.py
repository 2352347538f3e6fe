"""What the API takes and says of a what-if."""

from pydantic import Field

from controlplane.decisions.checks import CheckState
from controlplane.decisions.schemas import Changes, PredictedOut
from controlplane.schemas import Body, Out, UtcTime
from inference_node.contract.settings import EngineSettings, KnobValue


class WhatIfIn(Body):
    """Settings and load to look at. What is left out is as it is: the knobs in force, the load that is planned for."""

    settings: dict[str, KnobValue] = Field(default_factory=dict, description="knob -> value to look at")
    offered_rps: float | None = Field(
        default=None, gt=0, le=1e6, allow_inf_nan=False, description="requests per second of the whole pool"
    )
    prompt_tokens: float | None = Field(
        default=None, ge=1, le=1e6, allow_inf_nan=False, description="of a prompt, less what the prefix cache has"
    )
    generation_tokens: float | None = Field(default=None, ge=1, le=1e6, allow_inf_nan=False, description="of an answer")


class EstimateOut(Out):
    value: float
    low: float
    high: float


class CheckOut(Out):
    """A limit, and how these settings stand to it."""

    name: str
    state: CheckState
    share: float | None = Field(description="used of what is allowed, 1 at the limit; null where that is no number")
    detail: str


class AtRateOut(Out):
    rate: float
    ttft_p95_s: EstimateOut
    itl_p95_s: EstimateOut


class OutlookOut(Out):
    """What is expected of one side. Latencies range over what the step times, or the model in the newest windows, were off by."""

    settings: EngineSettings
    predicted: PredictedOut = Field(description="as decisions weigh it")
    ttft_p95_s: EstimateOut
    itl_p95_s: EstimateOut
    throughput_tokens_per_s: EstimateOut = Field(description="answer tokens per second at that load")
    capacity_rps: EstimateOut
    quality_loss: EstimateOut | None = Field(description="growth of perplexity; null where nobody measured it")
    kv_share: EstimateOut | None = Field(description="of a node's KV cache, held by running requests")
    weight_bytes: int | None = Field(description="of the weights on a node; null where nobody measured it")
    checks: list[CheckOut]
    notes: list[str] = Field(description="how far the answer can be relied on")
    curve: list[AtRateOut] = Field(description="latencies over the load, from little to more than is possible")


class WhatIfLoadOut(Out):
    """The load that both sides carry, and what it was filled in from."""

    offered_rps: float
    prompt_tokens: float
    generation_tokens: float
    waiting: float = Field(description="requests that wait now, which are worked off first")
    horizon_s: float
    likely_rps: float
    planned_rps: float
    observed_rps: float | None = Field(description="of the newest window")


class WhatIfOut(Out):
    """The settings in force beside others, under the same load, on the model that decisions use."""

    pool_id: str
    pool: str
    decision_id: str = Field(description="whose recorded inputs the model was taken from")
    at: UtcTime
    load: WhatIfLoadOut
    changes: Changes
    error_ratio: float = Field(description="what step times are taken to be off by")
    residual_windows: int = Field(description="windows that tell what the model was off by")
    now: OutlookOut
    then: OutlookOut | None = Field(description="null where nothing is known of those settings: see `unknown`")
    unknown: str | None
