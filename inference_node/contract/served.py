"""How far a node's answers lie from full precision on what it really served, as the control plane asks it and as it tells.

Numbers only: no token and no text of a client is in either message.
"""

from pydantic import BaseModel, ConfigDict, Field

from inference_node.contract.settings import KvPrecision, Precision

MAX_GENERATION = 2**31 - 1
# What a heartbeat carries of one watch, and what a canary computes for it.
MAX_SAMPLES = 256
# Answers are counted by length in powers of two: 1, 2 to 3, 4 to 7 … and the last takes all above.
LENGTH_CLASSES = 13


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ServedWatch(_Document):
    """What a node shall score again, once the settings of `generation` are in force there, and until others are."""

    generation: int = Field(ge=1, le=MAX_GENERATION)
    share: float = Field(gt=0, le=1, description="of the requests that it answers, drawn at random")
    least: int = Field(ge=1, le=MAX_SAMPLES, description="taken one after the other, until so many are scored")
    most: int = Field(ge=1, le=MAX_SAMPLES, description="with so many it ends")


class ServedSample(_Document):
    """One request, prompt and answer, teacher-forced under the settings in force and under full precision."""

    tokens: int = Field(ge=1, description="places at which both predicted the next token")
    kl: float = Field(ge=0, description="mean divergence of full precision from the settings, nats per token")
    agreed: int = Field(ge=0, description="places at which the likeliest token is the same")


class AnswerMix(_Document):
    """Answers that were counted, none of them looked at."""

    stopped: int = Field(default=0, ge=0, description="ended by themselves or at a stop string")
    cut: int = Field(default=0, ge=0, description="ended since they had as many tokens as they might")
    lengths: tuple[int, ...] = Field(
        default=(0,) * LENGTH_CLASSES,
        min_length=LENGTH_CLASSES,
        max_length=LENGTH_CLASSES,
        description="answers by number of tokens, in classes of powers of two",
    )

    @property
    def total(self) -> int:
        return self.stopped + self.cut


class ServedQuality(_Document):
    """What came of a watch so far. The level is what was in force while it was scored."""

    generation: int = Field(ge=1, le=MAX_GENERATION)
    precision: Precision
    kv_precision: KvPrecision = KvPrecision.MODEL
    pruning_threshold: float = Field(ge=0, le=0.7)
    samples: tuple[ServedSample, ...] = Field(default=(), max_length=MAX_SAMPLES)
    kl_p99: float | None = Field(default=None, ge=0, description="nats, of the worst hundredth of all places")
    broken: int = Field(default=0, ge=0, description="requests at which the settings predicted no numbers")
    unable: str | None = Field(default=None, max_length=300, description="why this node cannot score")
    before: AnswerMix = Field(default=AnswerMix(), description="under the settings before")
    since: AnswerMix = Field(default=AnswerMix(), description="under these")
