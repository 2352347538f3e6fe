"""What goes into a decision and what comes out: frozen values that survive JSON unchanged, for an exact replay."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from pydantic import TypeAdapter

from controlplane.decisions.error_budget import Tally
from controlplane.decisions.policy import Autonomy, Policy
from controlplane.decisions.reasons import Outcome, Reason, Trigger
from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.merit import Merit
from controlplane.telemetry.observation import Observation
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import interpolate

# 2: the breaker against flapping; room before the smallest change; better answers before a smaller batch when relaxing.
# 3: nothing but what protects while the error budget burns too fast; nothing that a guard would take back; of equals, what is
# known.
# 4: refused requests count as missed; where the controller may, it fits the limit of the queue to the objective. A forecast
# moves something only where it has earned it.
# 5: against a threat, and on the way back from a spent quality budget, what is known on the whole pool comes before what would
# need a canary, wherever it will do, and is weighed although it lies beside the grid. The way home leads over levels between.
RULES = 5


@dataclass(frozen=True, slots=True)
class StepTime:
    """Fitted step time of one precision on one node:

        base_s + row_s * decode_rows + curve(decode_rows) + prefill_token_s * prefill_tokens

    `curve` is a line through (rows, seconds) knots, from (0, 0) on; empty for none. `error_ratio` is the mean relative error on
    what it was fitted to; `samples` how many cells, steps and windows that were.
    """

    precision: Precision
    base_s: float
    row_s: float
    prefill_token_s: float
    samples: int
    error_ratio: float
    measured: bool = False
    curve: tuple[tuple[int, float], ...] = ()

    def at(self, decode_rows: float, prefill_tokens: float) -> float:
        """Seconds of one step with so many decode rows and prefill tokens."""
        rows = self.row_s * decode_rows + self.curve_s(decode_rows)
        return self.base_s + rows + self.prefill_token_s * prefill_tokens

    def curve_s(self, decode_rows: float) -> float:
        """The part of the decode rows that is not in proportion to them."""
        return interpolate(self.curve, decode_rows)

    def scaled(self, factor: float) -> "StepTime":
        """The same shape, `factor` times as long."""
        return self.by_parts(factor, factor, factor)

    def by_parts(self, base: float, rows: float, prefill: float) -> "StepTime":
        """Base, decode rows and prefill each so many times as long."""
        return replace(
            self,
            base_s=self.base_s * base,
            row_s=self.row_s * rows,
            prefill_token_s=self.prefill_token_s * prefill,
            curve=tuple((knot, seconds * rows) for knot, seconds in self.curve),
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """An average request: prompt tokens that must be computed (not found in the prefix cache), and answer tokens."""

    prompt_tokens: float
    generation_tokens: float


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as the decision sees it."""

    id: str
    name: str
    ready: bool
    capabilities: NodeCapabilities | None = None


@dataclass(frozen=True, slots=True)
class PastChange:
    """A change that happened to the pool: when it was decided or ended, and whether it was taken back.

    bare_hash: of its settings without the limit of the queue, where that is known.
    """

    at: datetime
    trigger: Trigger
    settings_hash: str | None = None
    rolled_back: bool = False
    by_controller: bool = True
    bare_hash: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionInputs:
    """Everything that `decide()` knows. Nothing else may influence it.

    `history` is the pool's windows of the relaxing cooldown, oldest first, `observation` among them as the last; `workload` and
    `step_times` rest on longer ones. `home` is what people last set:
    relaxing leads back there and no further. `alarm`: what alerts say that ask for the pool's protection.
    """

    now: datetime
    pool: str
    policy: Policy
    policy_version: int
    settings: EngineSettings
    nodes: tuple[NodeFacts, ...]
    observation: Observation | None
    history: tuple[Observation, ...]
    forecasts: dict[str, Forecast]
    step_times: tuple[StepTime, ...]
    workload: Workload | None = None
    changes: tuple[PastChange, ...] = ()
    home: EngineSettings | None = None
    frozen_reason: str | None = None
    active_rollout: str | None = None
    alarm: str | None = None
    # What an answer token lost on average over the span of the quality budget; None where the policy has no such budget.
    quality_spent_ratio: float | None = None
    # What was served over the policy's burn window, and how much of it missed the objectives; None where nobody counted.
    served: Tally | None = None
    # The newest load, repeated, with the band of its own misses: what decisions go by where the forecast has no say.
    newest: Forecast | None = None
    # What the pool's forecasts have been worth so far.
    merit: Merit | None = None
    # Settings of which a rollout was completed on the whole pool lately and none was taken back, newest first: a few.
    known: tuple[EngineSettings, ...] = ()
    # Which rules hold: decisions recorded under older ones are made again under those.
    rules: int = 1

    def to_json(self) -> dict[str, Any]:
        """Absent values are left out: most of what a window can hold is absent."""
        data: dict[str, Any] = _INPUTS.dump_python(self, mode="json", exclude_none=True)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DecisionInputs":
        return _INPUTS.validate_python({"observation": None} | data)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the performance model expects of some settings under the planned load. Seconds, per second, 0 to 1.

    `breach_probability` is the fluid projection's, worked out for the candidates that are recorded. `refused_ratio`: share of
    requests that the limit of the queue keeps out; None where the controller does not turn that.
    """

    ttft_p95_s: float
    itl_p95_s: float
    capacity_rps: float
    throughput_tokens_per_s: float
    utilisation: float
    quality_loss_ratio: float
    breach_probability: float | None = None
    refused_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that were weighed, and the verdict on them in words."""

    settings: EngineSettings
    predicted: Predicted
    feasible: bool
    violation: float
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule that shaped the decision: its name, what it did (blocks, bounds, advises, notes), and the words."""

    name: str
    effect: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be done, and why. `projections` are latency forecasts under the settings in force (model "fluid")."""

    at: datetime
    outcome: Outcome
    reason: Reason
    trigger: Trigger
    explanation: str
    previous: EngineSettings
    chosen: EngineSettings | None = None
    mode: Autonomy = Autonomy.OBSERVE
    breach_probability: float | None = None
    forecast: dict[str, Any] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    projections: tuple[Forecast, ...] = ()

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _DECISION.dump_python(self, mode="json")
        for candidate in data["candidates"]:
            if candidate["predicted"]["refused_ratio"] is None:  # as it was recorded before there was such a figure
                del candidate["predicted"]["refused_ratio"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return _DECISION.validate_python(data)  # type: ignore[return-value]  # the adapter is made for this very class


_INPUTS: TypeAdapter[DecisionInputs] = TypeAdapter(DecisionInputs)
_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)
