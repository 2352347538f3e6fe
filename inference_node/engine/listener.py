"""What the engine tells about itself while it runs. Called from the engine's thread: be quick, never raise. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine.requests import FinishReason, RequestTiming


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step. Counts are of this step; running, waiting and blocks are as it ended; `pruned_ratio` is of weights.

    `work_*` is what a dense step of this shape must move and multiply at least (see engine.work); 0 when it is not known.
    """

    step: int
    started_s: float
    duration_s: float
    precision: Precision
    decode_rows: int
    prefill_tokens: int
    prefill_rows: int
    generated_tokens: int
    preemptions: int
    prefix_queries: int
    prefix_hits: int
    running: int
    waiting: int
    blocks_used: int
    blocks_total: int
    batch_cap: int
    pruned_ratio: float
    work_bytes: float = 0.0
    work_flops: float = 0.0
    replica: int = 0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that came to its end. `error` names the cause (a short word, for a label) when the reason is `error`."""

    request_id: str
    finish_reason: FinishReason
    timing: RequestTiming
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    num_preemptions: int
    error: str | None = None


class EngineListener(Protocol):
    """Receives what happens. `on_request_offered` and `on_request_rejected` come from the thread that submits."""

    def on_request_offered(self, num_prompt_tokens: int) -> None:
        """A request reached the engine, admitted or not."""

    def on_request_rejected(self, reason: str) -> None:
        """It was not admitted: `queue_full`, `prompt_too_long`, `invalid` or `stopped`."""

    def on_step(self, record: StepRecord) -> None:
        """A step ended."""

    def on_token_times(self, first_token_s: Sequence[float], inter_token_s: Sequence[float]) -> None:
        """Latencies of one step's tokens, once a step: arrival to first token, and token to token, in seconds."""

    def on_request_finished(self, record: RequestRecord) -> None:
        """A request ended, for whatever reason."""

    def on_settings_applied(self, settings: EngineSettings, step: int, changed: Sequence[str]) -> None:
        """`settings` are in force from `step` on; `changed` are the knobs that differ from before."""


class SilentListener:
    """Hears nothing; the engine's listener when none is given."""

    def on_request_offered(self, num_prompt_tokens: int) -> None: ...
    def on_request_rejected(self, reason: str) -> None: ...
    def on_step(self, record: StepRecord) -> None: ...
    def on_token_times(self, first_token_s: Sequence[float], inter_token_s: Sequence[float]) -> None: ...
    def on_request_finished(self, record: RequestRecord) -> None: ...
    def on_settings_applied(self, settings: EngineSettings, step: int, changed: Sequence[str]) -> None: ...
