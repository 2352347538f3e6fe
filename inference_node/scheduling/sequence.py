"""A request's tokens inside the engine, and how far their KV is computed."""

from dataclasses import dataclass, field
from enum import StrEnum

from inference_node.scheduling.sampling_params import SamplingParams


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


class SequenceStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """One request being served. Compared and hashed by identity.

    `tokens` is prompt plus answer so far; `num_computed` of them have their KV in `block_table`. The state `num_computed <
    len(tokens)` is all there is to prefill, chunked prefill, prefix hits and decode: a decoding sequence lacks exactly one token.
    Times are seconds on the engine's monotonic clock; `deadline_s` is a moment, not a span. `cache_salt` keeps prefixes apart:
    blocks are shared only among sequences of an equal one.
    """

    request_id: str
    tokens: list[int]
    num_prompt_tokens: int
    sampling: SamplingParams
    arrived_s: float = 0.0
    priority: int = 0
    deadline_s: float | None = None
    cache_salt: str = ""
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed: int = 0
    num_cached: int = 0
    num_preemptions: int = 0
    block_table: list[int] = field(default_factory=list)
    # Chain of hashes of this sequence's full blocks, and the arithmetic they were computed under; None once it was mixed.
    block_hashes: list[bytes] = field(default_factory=list)
    cache_seed: str | None = None
    # The same hashes as far as anybody has asked for them, and the seed of that chain: kept through waiting and preemption.
    chain: list[bytes] = field(default_factory=list)
    chain_seed: str | None = None
    last_scheduled_step: int = -1
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    finish_reason: FinishReason | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_uncomputed(self) -> int:
        return len(self.tokens) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether one row of compute brings the next token. A one-token prompt counts: its cost is the same."""
        return len(self.tokens) - self.num_computed == 1
