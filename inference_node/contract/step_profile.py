"""How long a node's steps take, as it measured them: a table of cells, and a fit that fills the gaps between them.

The same `StepFit` answers the node's own scheduler and the control plane, so that both expect the same of a batch.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from inference_node.contract.settings import EngineSettings, KvPrecision, Precision

_MAX_NUMBER = 2**31 - 1
_PRUNING_BUCKET = 0.1
Count = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class StepShape:
    """What of a step's content decides how long it takes.

    `prefill_rows` sequences compute `prefill_tokens` of their prompts. `context_tokens` are those before the decode rows,
    all together; `prefill_pairs` the (query, key) pairs of the prefill: a chunk of n tokens after s has n * s + n * n / 2.
    """

    decode_rows: int
    prefill_tokens: int = 0
    prefill_rows: int = 0
    context_tokens: int = 0
    prefill_pairs: int = 0

    @classmethod
    def of_totals(cls, decode_rows: int, prefill_tokens: int, context_tokens: int) -> Self:
        """From what a scheduler knows beforehand; context_tokens are those before the rows, which these attend to.

        With both kinds of rows in the step, the context counts as the decode rows'.
        """
        decodes, prefills = decode_rows > 0, prefill_tokens > 0
        pairs = prefill_tokens * prefill_tokens // 2 + (0 if decodes else prefill_tokens * context_tokens)
        return cls(decode_rows, prefill_tokens, int(prefills), context_tokens if decodes else 0, pairs)

    @property
    def tokens(self) -> int:
        """Rows of every matrix product in the step."""
        return self.decode_rows + self.prefill_tokens


class _Document(BaseModel):
    # Unknown fields are ignored on the wire, so that an older side understands a newer one.
    model_config = ConfigDict(frozen=True, extra="ignore")


class StepArithmetic(_Document):
    """The settings that a step's time depends on.

    `pruning` is the upper edge of a bucket of pruning_threshold, 0.1 wide; 0 is dense.
    """

    precision: Precision
    kv_precision: KvPrecision = KvPrecision.MODEL
    pruning: float = Field(default=0.0, ge=0, le=1)

    @classmethod
    def of(cls, settings: EngineSettings) -> Self:
        return cls(
            precision=settings.precision,
            kv_precision=settings.kv_precision,
            pruning=pruning_bucket(settings.pruning_threshold),
        )


class StepSample(StepArithmetic):
    """One cell of the table: steps of at most so many rows and tokens (and more than the next smaller cell takes)."""

    decode_rows: Count
    prefill_tokens: Count
    context_tokens: int = Field(
        default=0, ge=0, description="KV tokens that decode rows read, all together; 0: not told apart"
    )
    step_s: float = Field(gt=0, description="median seconds of one step")
    p95_s: float = Field(default=0.0, ge=0, description="95 % quantile of them; 0 when an older node does not tell")
    ewma_s: float = Field(default=0.0, ge=0, description="smoothed seconds, the newest steps count most; 0 as above")
    samples: int = Field(ge=1, le=_MAX_NUMBER)


class StepFit(StepArithmetic):
    """Seconds of a step as a sum of costs, none of them negative:

        base + curve(tokens) + decode_row * decode_rows + prefill_row * prefill_rows
             + context_token * context_tokens + prefill_pair * prefill_pairs

    `curve` is a line through knots (tokens, seconds), never falling, straight on beyond the last: flat where the weights' bytes
    decide, steep where arithmetic does, as max(bytes / bandwidth, flops / rate) has it, without asking where it turns.
    `error_*` are relative errors of predictions made before the step was seen.
    """

    base_s: Seconds
    curve: tuple[tuple[Count, Seconds], ...]
    decode_row_s: Seconds
    prefill_row_s: Seconds
    context_token_s: Seconds
    prefill_pair_s: Seconds
    samples: int = Field(ge=1, le=_MAX_NUMBER)
    error_median: float | None = Field(
        default=None, ge=0, description="median relative error; null: nothing was held out"
    )
    error_p95: float | None = Field(default=None, ge=0, description="95 % quantile of it")
    error_samples: Count = 0

    def step_s(self, shape: StepShape) -> float:
        """Seconds of one such step."""
        return (
            self.base_s
            + self.curve_s(shape.tokens)
            + self.decode_row_s * shape.decode_rows
            + self.prefill_row_s * shape.prefill_rows
            + self.context_token_s * shape.context_tokens
            + self.prefill_pair_s * shape.prefill_pairs
        )

    def curve_s(self, tokens: float) -> float:
        """The part that depends on how many tokens go through the matrices."""
        return interpolate(self.curve, tokens)


class StepProfile(_Document):
    """Step times measured on this node with this model, by a short probe at start and refined by the steps it serves.

    Seconds and counts throughout. `epoch` grows with each new fit. The fingerprints say whose times these are: they are kept
    across restarts and used again only for the same machine, model and version of the engine.
    """

    cells: tuple[StepSample, ...] = ()
    fits: tuple[StepFit, ...] = ()
    epoch: Count = 0
    hardware: str = Field(default="", description="fingerprint of processor, cores and threads")
    model: str = Field(default="", description="fingerprint of the model's weights")
    engine_version: str = ""

    def fit_for(self, arithmetic: StepArithmetic) -> StepFit | None:
        """The fit of exactly this arithmetic."""
        return next((fit for fit in self.fits if is_same_arithmetic(fit, arithmetic)), None)


def is_same_arithmetic(one: StepArithmetic, other: StepArithmetic) -> bool:
    return (one.precision, one.kv_precision, one.pruning) == (other.precision, other.kv_precision, other.pruning)


def pruning_bucket(threshold: float) -> float:
    """Upper edge of the bucket that a pruning_threshold falls into; 0 for none."""
    return round(-(-threshold // _PRUNING_BUCKET) * _PRUNING_BUCKET, 1) if threshold > 0 else 0.0


def interpolate(knots: tuple[tuple[int, float], ...], at: float) -> float:
    """Height of the line from (0, 0) through (place, height) knots, places ascending; straight on after the last."""
    if not knots:
        return 0.0
    right = min(bisect_right(knots, at, key=lambda knot: knot[0]), len(knots) - 1)
    x1, y1 = knots[right]
    x0, y0 = knots[right - 1] if right else (0, 0.0)
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
