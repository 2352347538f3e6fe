"""What clients see of decisions and policies."""

from typing import Any

from pydantic import Field

from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.policy import Autonomy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.schemas import Out, UtcTime
from inference_node.contract.settings import EngineSettings, KnobValue

Changes = dict[str, tuple[KnobValue, KnobValue]]


class PredictedOut(Out):
    """What the performance model expects under the planned load."""

    ttft_p95_s: float
    itl_p95_s: float
    capacity_rps: float
    throughput_tokens_per_s: float
    utilisation: float
    quality_loss_ratio: float
    breach_probability: float | None
    refused_ratio: float | None = Field(
        default=None,
        description="share that the limit of the queue keeps out; null where the controller does not turn it",
    )


class CandidateOut(Out):
    settings: EngineSettings
    changes: Changes = Field(description="knob -> [in force, here]")
    predicted: PredictedOut
    feasible: bool = Field(description="whether it keeps the objectives with the policy's margin")
    violation: float = Field(description="sum of relative excesses over the objectives; 0 when feasible")
    verdict: str


class ConstraintOut(Out):
    name: str
    effect: str
    detail: str


class DecisionOut(Out):
    """A decision and its reasons. Equal consecutive holds are one, `repeats` times, last at `last_at`."""

    id: str
    pool_id: str
    pool: str
    at: UtcTime
    last_at: UtcTime
    repeats: int
    outcome: Outcome
    reason: Reason
    explanation: str
    trigger: Trigger
    actor: str
    mode: Autonomy
    epoch: int
    code_version: str
    previous: EngineSettings
    chosen: EngineSettings | None
    changes: Changes = Field(description="knob -> [before, after]; empty unless something was chosen")
    forecast: dict[str, Any] = Field(description="load, capacity and when an objective would break, as seen then")
    breach_probability: float | None
    candidates: list[CandidateOut] = Field(description="the settings in force first, then the best others")
    constraints: list[ConstraintOut]
    rollout_id: str | None

    @classmethod
    def of(cls, row: DecisionRecord, pool: str) -> "DecisionOut":
        previous = EngineSettings.model_validate(row.previous)
        chosen = None if row.chosen is None else EngineSettings.model_validate(row.chosen)
        return cls.model_validate(
            {
                **{name: getattr(row, name) for name in _PLAIN},
                "pool": pool,
                "previous": previous,
                "chosen": chosen,
                "changes": {} if chosen is None else previous.changed(chosen),
                "candidates": [_candidate(previous, candidate) for candidate in row.candidates],
            }
        )


_PLAIN = (
    "id", "pool_id", "at", "last_at", "repeats", "outcome", "reason", "explanation", "trigger", "actor", "mode", "epoch",
    "code_version", "forecast", "breach_probability", "constraints", "rollout_id",
)  # fmt: skip


def _candidate(previous: EngineSettings, recorded: dict[str, Any]) -> dict[str, Any]:
    settings = EngineSettings.model_validate(recorded["settings"])
    return recorded | {"settings": settings, "changes": previous.changed(settings)}


class ScalingOut(Out):
    """How many nodes a pool needs for the load that is planned for."""

    pool: str
    nodes_wanted: int = Field(description="what a replica count should be, at least 1")
    nodes_ready: int
    planned_rps: float = Field(description="requests per second that are planned for within the policy's horizon")
    node_rps: float = Field(description="requests per second that one node carries under the settings in force")
    utilisation: float = Field(description="share of it that is meant to be used")
    at: UtcTime = Field(description="when that was seen")


class ReplayOut(Out):
    """The decision made again from its recorded inputs by the code that runs now."""

    identical: bool = Field(description="whether everything that was recorded came out the same")
    decision: dict[str, Any]
