"""What clients see of tries: what was tried and why, how it was chosen, and what it showed."""

from pydantic import Field

from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.explored import Quantity, TryVerdict
from controlplane.decisions.schemas import Changes, PredictedOut
from controlplane.rollouts.models import Exploration
from controlplane.schemas import Out, UtcTime
from inference_node.contract.settings import EngineSettings


class OptionOut(Out):
    """Settings that might have been tried. What ends in `_high` is two standard deviations above what is likely."""

    settings: EngineSettings
    predicted: PredictedOut
    ttft_high_s: float
    itl_high_s: float
    utilisation_high: float
    gain: float = Field(description="expected of capacity, as a share; the errors of the model so far are in it")
    sd: float = Field(description="of the logarithm of what is known least: latencies and step time")
    score: float = Field(description="the gain for the quality that it costs")
    safe: bool = Field(description="whether the `_high` values are within the objectives, and enough is known nearby")


class ShownOut(Out):
    """One metric of the node against its peers, by what the try changed of their ratio."""

    metric: str
    windows: int
    windows_before: int
    tried: float | None = Field(description="level on the node while it was tried, in the metric's unit")
    peers: float | None = Field(description="the same on its peers")
    ratio: float | None = Field(description="by how much the try changed the node; 1 is no change")
    low: float | None = Field(description="of the 95 % interval; null with fewer than six windows on either side")
    high: float | None
    expected_ratio: float | None = Field(description="what the model expects at the load that came")


class LogErrorOut(Out):
    """How wrong the model was, as log(measured / predicted): what the next choice is made by."""

    quantity: Quantity
    value: float
    sd: float


class CountsOut(Out):
    requests: int
    requests_peers: int
    failed: int
    failed_peers: int


class TryOutcomeOut(Out):
    """What a try showed. Capacity is not measured: the pool was calm."""

    verdict: TryVerdict
    explanation: str
    shown: list[ShownOut]
    errors: list[LogErrorOut]
    node_rps: float = Field(description="requests per second that the node was offered")
    counts: CountsOut
    harmful: bool = Field(description="it had to be ended for what the node did")
    answers: list[str] = Field(description="their distance from full precision in words, where it was scored")


class ExplorationOut(Out):
    """Settings that the controller tried on one node by itself, and what came of it."""

    id: str
    pool_id: str
    node_id: str
    node: str
    at: UtcTime
    arm: ExplorationMode
    lease_s: float
    revision: int
    settings: EngineSettings
    base: EngineSettings = Field(description="what was in force in the pool")
    changes: Changes = Field(description="knob -> [in force, tried]")
    explanation: str
    now: PredictedOut = Field(description="expected of the settings in force, at the load of the choice")
    considered: list[OptionOut] = Field(description="the best options, the chosen one among them")
    options: int = Field(description="how many there were")
    safe: int = Field(description="how many of them were held for safe")
    applied_at: UtcTime | None
    ended_at: UtcTime | None = Field(description="null while it goes on")
    ended_why: str | None
    outcome: TryOutcomeOut | None
    epoch: int
    code_version: str

    @classmethod
    def of(cls, row: Exploration, node: str, revision: int) -> "ExplorationOut":
        base, settings = EngineSettings.model_validate(row.base), EngineSettings.model_validate(row.settings)
        choice = row.choice
        return cls.model_validate(
            {
                **{name: getattr(row, name) for name in _PLAIN},
                "node": node,
                "revision": revision,
                "base": base,
                "settings": settings,
                "changes": base.changed(settings),
                "now": _filled(choice["now"]),
                "considered": [each | {"predicted": _filled(each["predicted"])} for each in choice["considered"]],
                "options": choice["options"],
                "safe": choice["safe"],
                "outcome": None if row.outcome is None else _outcome(row.outcome),
            }
        )


_PLAIN = (
    "id", "pool_id", "node_id", "at", "arm", "lease_s", "explanation", "applied_at", "ended_at", "ended_why", "epoch",
    "code_version",
)  # fmt: skip


def _filled(predicted: dict[str, object]) -> dict[str, object]:
    """Absent values are left out of what is kept."""
    return {"breach_probability": None, "refused_ratio": None} | predicted


def _outcome(kept: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    absent = dict.fromkeys(("tried", "peers", "ratio", "low", "high", "expected_ratio"))
    return {**kept, "shown": [absent | each for each in kept["shown"]]}
