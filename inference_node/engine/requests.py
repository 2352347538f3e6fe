"""What goes into the engine and what comes out of it, as plain values. No torch."""

from dataclasses import dataclass
from typing import NamedTuple

from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.scheduling.sequence import FinishReason as FinishReason


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One generation. Lower `priority` runs first; `deadline_s` counts from arrival and orders the policy `deadline`.

    Cached prefixes are shared only among requests of an equal `cache_salt`.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    priority: int = 0
    deadline_s: float | None = None
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One candidate: its id, its text by itself (may be a part of a character, shown as U+FFFD), natural log probability."""

    token_id: int
    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob(TopLogprob):
    """The chosen token, and the likeliest ones at its place in falling order."""

    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """When things happened to one request, on the engine's monotonic clock (time.monotonic), in seconds."""

    arrived_s: float
    first_scheduled_s: float | None
    first_token_s: float | None
    finished_s: float

    @property
    def queue_s(self) -> float | None:
        return None if self.first_scheduled_s is None else self.first_scheduled_s - self.arrived_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.arrived_s

    @property
    def prefill_s(self) -> float | None:
        if self.first_scheduled_s is None or self.first_token_s is None:
            return None
        return self.first_token_s - self.first_scheduled_s

    @property
    def decode_s(self) -> float | None:
        return None if self.first_token_s is None else self.finished_s - self.first_token_s

    @property
    def e2e_s(self) -> float:
        return self.finished_s - self.arrived_s


class TokenDelta(NamedTuple):  # made for every token: a tuple takes a third of the time that a frozen dataclass does
    """What one step brought for one request.

    `token_ids` are this step's tokens (empty when only held-back text or the end is told). `text` is what may be shown now:
    a token's text can come with a later delta, when it is part of a character or may begin a stop string; the texts of all
    deltas together are the answer. `finish_reason` and `timing` are set on the last delta only, and there is always a last one.
    `num_generated_tokens` counts all so far, `num_cached_tokens` the prompt tokens served from the prefix cache. `numerics`
    names the arithmetic of the step that made the token (`EngineSettings.numerics_key`), `step` its number.
    `error` tells what went wrong when finish_reason is `error`. `stop_reason` is the stop string or token id that ended it.
    """

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    numerics: str
    step: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    timing: RequestTiming | None = None
    error: str | None = None
    stop_reason: str | int | None = None
