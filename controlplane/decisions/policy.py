"""The policy of a pool: what must hold (SLO), what may be turned and by whom (autonomy, guardrails), how a change is rolled out.

A versioned document that people edit; each number that shapes a decision stands here and nowhere in the code.
"""

from enum import StrEnum
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from controlplane.calendars import MAX_DURATION_S, parse_cron
from controlplane.decisions.exploration_policy import ExplorationPolicy
from controlplane.decisions.mesh_policy import MeshPolicy
from inference_node.contract.settings import KNOBS, KnobBounds, Precision


class Autonomy(StrEnum):
    """How far the controller may go with a knob, from nothing to all: off, observe, advise, approve, auto.

    off: not considered. observe: considered and recorded, never proposed. advise and approve: proposed to a person.
    auto: rolled out.
    """

    OFF = "off"
    OBSERVE = "observe"
    ADVISE = "advise"
    APPROVE = "approve"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        return list(Autonomy).index(self)


class OnInconclusive(StrEnum):
    """What a canary analysis without a clear answer leads to."""

    PAUSE = "pause"
    PROMOTE = "promote"


class OnDrift(StrEnum):
    """What becomes of settings that an operator edited at a node itself. It is told of in any case.

    reassert: the node gets the pool's settings again. leave: it keeps them until the pool's change. adopt: they become a change
    of the pool, from the canary on, and the node goes back until its turn comes.
    """

    REASSERT = "reassert"
    LEAVE = "leave"
    ADOPT = "adopt"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Seconds = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Slo(_Document):
    """Service level objective. The defaults suit a small model on two shared CPU cores (decode steps of 35 to 90 ms)."""

    ttft_p95_s: float = Field(
        default=1.5, gt=0, description="95 % of requests get their first token within, in seconds"
    )
    itl_p95_s: float = Field(default=0.3, gt=0, description="95 % of gaps between tokens stay within, in seconds")
    error_rate: Ratio = Field(default=0.01, description="share of requests that may end in a server error")
    attainment: float = Field(
        default=0.95,
        ge=0.5,
        le=0.9999,
        description="share of first tokens and of gaps between tokens that must be within the above; the rest is the error "
        "budget. 0.95 is what the 95 % above say",
    )


def _default_autonomy() -> dict[str, Autonomy]:
    return {
        "max_batch_size": Autonomy.AUTO,
        "batch_wait_ms": Autonomy.AUTO,
        "max_batched_tokens": Autonomy.AUTO,
        "target_itl_ms": Autonomy.OFF,
        "precision": Autonomy.APPROVE,
        "kv_precision": Autonomy.OFF,
        "pruning_threshold": Autonomy.APPROVE,
        "prefix_cache": Autonomy.OFF,
        "scheduling_policy": Autonomy.OFF,
        "max_queue": Autonomy.OFF,
    }


class Guardrails(_Document):
    """What bounds every change, whoever proposes it."""

    bounds: dict[str, KnobBounds] = Field(
        default_factory=lambda: {
            "max_batch_size": KnobBounds(min=1, max=64),
            "max_batched_tokens": KnobBounds(min=128, max=2048),
            "batch_wait_ms": KnobBounds(min=0, max=20),
            "pruning_threshold": KnobBounds(min=0, max=0.5),
        },
        description="per numeric knob, the range inside which it may be tuned",
    )
    max_change_ratio: float = Field(
        default=4.0, ge=1.05, description="largest factor by which one change may move a knob, up or down"
    )
    max_relax_ratio: float = Field(
        default=2.0, ge=1.05, description="the same for one relaxing change: recovery is slower"
    )
    cooldown_protective_s: Seconds = Field(
        default=30.0, description="pause after a change before the next protective one"
    )
    cooldown_relaxing_s: Seconds = Field(
        default=300.0, description="calm needed since change, threat and high load to relax"
    )
    max_changes_per_h: int = Field(default=12, ge=0, description="changes that the controller may make within an hour")
    hysteresis: Ratio = Field(
        default=0.1, description="share by which a relaxed setting must still beat what is needed"
    )
    rolled_back_hold_s: Seconds = Field(
        default=1800.0, description="for how long settings that were rolled back stay barred"
    )
    flap_reversals: int = Field(
        default=3, ge=1, description="so many turns between protecting and relaxing stop relaxing for a while"
    )
    flap_window_s: Seconds = Field(default=1800.0, description="if they lie within so long")
    flap_hold_s: Seconds = Field(default=3600.0, description="for how long, from the last of them")
    min_ready_ratio: Ratio = Field(default=0.5, description="share of the pool's nodes that must be ready for a change")
    max_burn_rate: float | None = Field(
        default=2.0,
        ge=1,
        le=1000,
        description="error budget spent faster than so many times what lasts: only protective changes; null: no such freeze",
    )
    burn_window_s: float = Field(default=3600.0, ge=300, le=21_600, description="over how long that is looked at")


class Objective(_Document):
    """When to act, and what counts as better."""

    breach_probability: Ratio = Field(
        default=0.6, description="projected probability of an SLO breach that calls for a protective change"
    )
    slo_margin: float = Field(default=0.9, gt=0, le=1, description="share of the SLO that a candidate must stay within")
    min_gain: Ratio = Field(default=0.03, description="gains below this share are no change")


# Of `quality.average_over_s`: what answers lost is told from settings and windows, which are read as far back.
SHORTEST_BOOKS_S, LONGEST_BOOKS_S = 300, 86_400


class CertifiedVariant(_Document):
    """A precision and pruning level whose quality was measured for this model.

    Nothing else is ever proposed but what all nodes of the pool have measured themselves and found good; of pruned levels only
    those with a step time, listed here or measured by all nodes.
    """

    precision: Precision
    pruning_threshold: float = Field(default=0.0, ge=0, le=0.7)
    quality_loss_ratio: Ratio = Field(description="measured loss against the reference, 0 to 1")
    step_time_ratio: float | None = Field(
        default=None, gt=0, description="step time against the unpruned step at the same precision, where measured"
    )


class Quality(_Document):
    """What answers may lose."""

    max_loss_ratio: Ratio = Field(
        default=0.01, description="of any settings that are proposed, while they are in force"
    )
    average_loss_ratio: Ratio | None = Field(
        default=None,
        description="of an average token over `average_over_s`: exact answers come back once it is spent; null: no such budget",
    )
    average_over_s: float = Field(
        default=86_400.0,
        ge=SHORTEST_BOOKS_S,
        le=LONGEST_BOOKS_S,
        description="over how long that average is taken, a day by default",
    )
    certified: tuple[CertifiedVariant, ...] = Field(
        default=(), description="besides what the nodes have good records of"
    )


class ServedPolicy(_Document):
    """How far the answers of a canary may lie from full precision, on what it really served, when a change touches precision,
    keys and values, or pruning. A change that waits for such figures and gets none is no PASS."""

    share: Ratio = Field(default=0.01, description="of its requests that are scored again; 0: none, and no verdict")
    min_sequences: int = Field(
        default=20,
        ge=10,
        le=256,
        description="requests without which there is no verdict; so many are taken in any case",
    )
    max_sequences: int = Field(default=200, ge=10, le=256, description="requests after which no more are scored")
    max_kl: float = Field(
        default=0.3,
        gt=0,
        description="mean divergence that is allowed, nats per token; the default is the nodes' own ceiling",
    )
    max_top1_loss: float = Field(
        default=0.35, gt=0, le=1, description="share of places whose likeliest token may be another one"
    )


class RolloutPolicy(_Document):
    """How a change is tried and watched. Short windows see less: see `min_requests` and `on_inconclusive`."""

    window_s: float = Field(default=10.0, gt=0, description="length of one analysis window")
    windows: int = Field(default=12, ge=2, description="windows before and after the canary step that are compared")
    settle_s: Seconds = Field(default=15.0, description="time after the canary step that is not judged")
    margin: float = Field(
        default=0.10, gt=0, description="latency may get worse by this share before it counts as worse"
    )
    min_requests: int = Field(default=20, ge=0, description="requests per arm without which there is no verdict")
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    progress_deadline_s: float = Field(default=120.0, gt=0, description="without progress for so long, roll back")
    bake_s: Seconds = Field(default=30.0, description="watch at 100 % with rollback armed")
    approvals: int = Field(
        default=0, ge=0, le=5, description="people, other than who asked for the change, that must approve it"
    )
    start_within_s: float = Field(
        default=86_400.0, gt=0, description="a change that waits (approval, freeze, start time) for longer has expired"
    )
    pause_limit_s: float = Field(
        default=86_400.0, gt=0, description="a pause that nobody ends for so long is rolled back"
    )
    quarantine_s: Seconds = Field(
        default=1800.0,
        description="how long a node that crashed under a change, or refused three, is left out; 0: never",
    )
    known_for_s: Seconds = Field(
        default=86_400.0,
        description="a protective change of the controller to settings that were good within so long needs no canary; 0: always",
    )
    served: ServedPolicy = ServedPolicy()
    mesh: MeshPolicy | None = Field(default=None, description="the route that shifts traffic with the rollout, if any")


class FreezeWindow(_Document):
    """A time that comes back in which the pool must not change. Rollbacks stay possible."""

    cron: str = Field(
        max_length=200, description="when it begins: minute hour day-of-month month day-of-week, say 0 18 * * fri"
    )
    duration_s: float = Field(ge=60, le=MAX_DURATION_S, description="how long it lasts")
    timezone: str = Field(default="UTC", max_length=64, description="IANA name, say Europe/Berlin")
    reason: str = Field(min_length=1, max_length=200, description="what people are told")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        parse_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (LookupError, ValueError, OSError):  # OSError: a folder of zones, as "Europe"
            raise ValueError(f"{value!r} is no time zone of the IANA database, as Europe/Berlin is") from None
        return value


class ForecastUse(StrEnum):
    """What decisions take a forecast of the load for.

    off: they go by the newest value alone. always: by the forecast. earned: by the forecast while planning on it has proved
    better on this pool; else it may advise, and keeps things from being relaxed.
    """

    OFF = "off"
    ALWAYS = "always"
    EARNED = "earned"


class ForecastPolicy(_Document):
    use: ForecastUse = Field(
        default=ForecastUse.EARNED,
        description="whether decisions go by the forecast, by the newest load alone, or by whichever has proved better",
    )
    horizon_s: float = Field(default=60.0, ge=5, le=3600, description="how far ahead to look")
    min_windows: int = Field(
        default=6,
        ge=1,
        le=100,
        description="windows with load that must be known before a threat without a queue counts",
    )


class Policy(_Document):
    """The whole document. Raises pydantic.ValidationError that names the field."""

    slo: Slo = Slo()
    autonomy: dict[str, Autonomy] = Field(default_factory=_default_autonomy)
    guardrails: Guardrails = Field(default_factory=Guardrails)
    objective: Objective = Objective()
    quality: Quality = Quality()
    rollout: RolloutPolicy = RolloutPolicy()
    forecast: ForecastPolicy = ForecastPolicy()
    exploration: ExplorationPolicy = ExplorationPolicy()
    on_drift: OnDrift = OnDrift.REASSERT
    freeze_windows: tuple[FreezeWindow, ...] = Field(
        default=(), max_length=50, description="times in which the pool must not change, beside freezes by hand"
    )

    @field_validator("autonomy")
    @classmethod
    def _known_knobs(cls, value: dict[str, Autonomy]) -> dict[str, Autonomy]:
        _refuse_unknown(value)
        return _default_autonomy() | value

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> Self:
        _refuse_unknown(self.guardrails.bounds)
        for name, bounds in self.guardrails.bounds.items():
            knob = KNOBS[name]
            if knob.minimum is None or knob.maximum is None:
                raise ValueError(f"guardrails.bounds.{name}: not a numeric knob")
            if not knob.minimum <= bounds.min <= bounds.max <= knob.maximum:
                raise ValueError(
                    f"guardrails.bounds.{name}: need {knob.minimum:g} <= min <= max <= {knob.maximum:g}, "
                    f"got min {bounds.min:g}, max {bounds.max:g}"
                )
        return self

    def autonomy_of(self, knob: str) -> Autonomy:
        return self.autonomy.get(knob, Autonomy.OFF)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def _refuse_unknown(names: dict[str, Any]) -> None:
    unknown = sorted(set(names) - set(KNOBS))
    if unknown:
        raise ValueError(f"unknown knob {unknown[0]!r}; there are {', '.join(KNOBS)}")


def demo_policy() -> Policy:
    """For the two-node demo pool: short canary windows, so little statistical power; an inconclusive canary is promoted
    when no guard fired, and recorded as exactly that."""
    return Policy(
        rollout=RolloutPolicy(
            window_s=5.0, windows=8, settle_s=5.0, min_requests=10, on_inconclusive=OnInconclusive.PROMOTE, bake_s=10.0
        )
    )
