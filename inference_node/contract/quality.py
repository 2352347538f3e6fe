"""What a node measured of its answers' quality at one level, against full precision. A level is a precision, a form of the KV
cache and a share of weights that are pruned."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from inference_node.contract.settings import EngineSettings, KvPrecision, Precision

# Arithmetic that is taken for the checkpoint's own: its answers are what the others are held against.
FULL_PRECISIONS = (Precision.FP32, Precision.BF16)


class StepTimeRatio(BaseModel):
    """How long one pruned step of `rows` one-token rows, with its share of a prompt, takes against the unpruned one."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    rows: int = Field(ge=1)
    ratio: float = Field(gt=0, description="pruned over unpruned seconds at the same precision; below 1 is faster")


class QualityRecord(BaseModel):
    """One measurement on held-out text, teacher-forced. The reference is bf16 without pruning, on the same tokens.

    `kl_mean` and `kl_p99` are Kullback-Leibler divergences of the reference from the candidate, in nats per token, over the
    reference's 64 likeliest tokens and the sum of all others: a lower bound of the divergence over the whole vocabulary.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    precision: Precision
    kv_precision: KvPrecision = KvPrecision.MODEL
    pruning_threshold: float = Field(ge=0, le=0.7)
    tokens: int = Field(ge=1, description="tokens that were predicted")
    perplexity: float = Field(gt=0)
    perplexity_ratio: float = Field(gt=0, description="perplexity over the reference's; 1 is as good")
    perplexity_ratio_error: float = Field(
        default=0.0, ge=0, description="standard error of the ratio, as if tokens were independent"
    )
    kl_mean: float = Field(ge=0, description="nats per token")
    kl_p99: float = Field(ge=0, description="nats, of the worst hundredth of tokens")
    top1_agreement: float = Field(ge=0, le=1, description="share of tokens whose likeliest successor is the same")
    kept_ratio: float = Field(
        default=1.0, ge=0, le=1, description="share of the layers' weights that the tokens had use for"
    )
    weight_bytes: int = Field(ge=0, description="of the weights in memory")
    step_times: tuple[StepTimeRatio, ...] = Field(
        default=(),
        description="of a pruned level: against no pruning, by rows in the step; empty where nobody timed it",
    )
    model: str = Field(description="fingerprint of the checkpoint")
    arithmetic: str = Field(description="fingerprint of the code, the kernels and the text that measured")
    made_at: AwareDatetime

    @property
    def level(self) -> tuple[Precision, KvPrecision, float]:
        """What was measured; there is one record of each."""
        return self.precision, self.kv_precision, self.pruning_threshold

    def is_milder(self, precision: Precision, kv_precision: KvPrecision, pruning_threshold: float) -> bool:
        """Whether its level takes no more from answers than that one. What can be said of two without measuring: more pruning, or
        narrower keys and values beside the same weights, give no better answers."""
        narrows = self.kv_precision not in (KvPrecision.MODEL, kv_precision)
        return self.precision is precision and not narrows and self.pruning_threshold <= pruning_threshold

    def is_harsher(self, precision: Precision, kv_precision: KvPrecision, pruning_threshold: float) -> bool:
        """The other way: whether it takes no less."""
        widens = kv_precision not in (KvPrecision.MODEL, self.kv_precision)
        return self.precision is precision and not widens and self.pruning_threshold >= pruning_threshold

    @property
    def loss_ratio(self) -> float:
        """What the answers lost, 0 to 1: by how much perplexity grew."""
        return min(1.0, max(0.0, self.perplexity_ratio - 1.0))

    def step_time_ratio(self, rows: int) -> float | None:
        """Against no pruning, in steps of at most so many rows; None where it was not measured.

        Of the two sizes measured around `rows` the less favourable: rows share the reading that pruning spares, so the gain
        shrinks with their number, and between two measurements nobody knows where.
        """
        ordered = sorted(self.step_times, key=lambda time: time.rows)
        above = [time.ratio for time in ordered if time.rows >= rows][:1]
        below = [time.ratio for time in ordered if time.rows < rows][-1:]
        # Beyond the largest nothing is known but that it gains no more than there: no promise.
        return max((*above, *below) if above else (*below, 1.0)) if ordered else None


class NodeQuality(BaseModel):
    """What a node measured so far, and the ceiling that it goes by."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    max_perplexity_ratio: float = Field(ge=1)
    max_kl: float = Field(gt=0, description="of the mean, nats per token")
    records: tuple[QualityRecord, ...] = ()

    def holds(self, record: QualityRecord) -> bool:
        """Whether the node takes such settings without force."""
        return record.perplexity_ratio <= self.max_perplexity_ratio and record.kl_mean <= self.max_kl


def is_full_precision(settings: EngineSettings) -> bool:
    """Whether these settings compute what the checkpoint says, so that there is nothing to certify."""
    precise = settings.precision in FULL_PRECISIONS and settings.kv_precision is KvPrecision.MODEL
    return precise and settings.pruning_threshold == 0
