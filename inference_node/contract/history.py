"""What a node writes down while its control plane is away, and tells when it is back: windows of its own metrics, and changes.

Figures are those of the metrics themselves (`inference_node.contract.metrics`), not facts made of them: which facts there are,
and how they are computed, the control plane knows for every way that they come in.
"""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from inference_node.contract import metrics
from inference_node.contract.messages import MAX_NUMBER
from inference_node.contract.metrics import MetricKind
from inference_node.contract.settings import KnobValue

# As the control plane's own windows by default: their ends are multiples of it since 1970.
WINDOW_S = 15.0
# A day. Older windows make room: what the traffic was like yesterday at this time is what forecasts can use.
MOST_WINDOWS = 5760
MOST_CHANGES = 1000
# Of one message, which stays below what an API takes in one body.
WINDOWS_AT_ONCE, CHANGES_AT_ONCE = 120, 250

RECORDED = tuple(
    spec
    for spec in metrics.ALL
    if spec.kind is not MetricKind.INFO
    and (spec.name.startswith("vllm:") or spec.name.startswith(("inference_request", "inference_step")))
    and spec not in (metrics.STEP_MODEL_ERROR, metrics.PREFILL_TIME, metrics.DECODE_TIME)
)


class ChangedBy(StrEnum):
    """Who changed a node's settings: the control plane's push, an operator at the node, or a lease that had ended."""

    PUSH = "push"
    OPERATOR = "operator"
    LEASE = "lease"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class NodeWindow(_Message):
    """(end - window_s, end], by metric, summed over its series; histograms that did not move are left out."""

    end: AwareDatetime
    window_s: float = Field(gt=0, le=300)
    increases: dict[str, float] = Field(max_length=100, description="of counters, and of histograms' _sum and _count")
    gauges: dict[str, float] = Field(max_length=100, description="at the end")
    buckets: dict[str, dict[str, float]] = Field(
        max_length=50, description="histogram -> upper bound (`le`) -> increase of the observations up to it"
    )


class NodeChange(_Message):
    """Settings that came into force."""

    at: AwareDatetime
    by: ChangedBy
    generation: int = Field(ge=0, le=MAX_NUMBER)
    changes: dict[str, tuple[KnobValue, KnobValue]] = Field(max_length=100, description="knob -> (before, after)")


class NodeHistory(_Message):
    """A part of what a node wrote down, oldest first. Sent again under the same number until it is answered."""

    number: int = Field(ge=1, le=2**53, description="grows with each part, over restarts of the node too")
    away_since: AwareDatetime
    windows: tuple[NodeWindow, ...] = Field(max_length=WINDOWS_AT_ONCE)
    changes: tuple[NodeChange, ...] = Field(max_length=CHANGES_AT_ONCE)


class HistoryTaken(_Message):
    """Answer: the part is kept, and need not be kept by the node any longer. `new` is false for one that was taken before."""

    number: int
    new: bool
