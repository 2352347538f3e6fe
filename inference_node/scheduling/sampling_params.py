"""How one request wants its tokens chosen, validated at the door."""

import math
from dataclasses import dataclass

from inference_node.errors import Invalid

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16


class SamplingInvalid(Invalid):
    """A sampling parameter is out of its range; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one request. Raises SamplingInvalid, naming the field.

    temperature 0 is greedy: the most likely token, ties to the lower id. top_k 0 and top_p 1 switch those filters off;
    filters apply in the order temperature, top_k, top_p, min_p. logprobs None returns none, n returns the chosen token's and
    the n likeliest ones', of the distribution before temperature and filters, after penalties. With a seed, a request's
    draws depend on its own tokens only, never on its batch-mates.
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        _integer("max_tokens", self.max_tokens, 1, None)
        _number("temperature", self.temperature, 0.0, 2.0)
        _number("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise SamplingInvalid("top_p", "must be above 0, got 0")
        _integer("top_k", self.top_k, 0, None)
        _number("min_p", self.min_p, 0.0, 1.0)
        if self.seed is not None:
            _integer("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        _number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        if len(self.stop) > MAX_STOP_STRINGS:
            raise SamplingInvalid("stop", f"at most {MAX_STOP_STRINGS} strings, got {len(self.stop)}")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise SamplingInvalid("stop", "must hold non-empty strings")
        if any(isinstance(token, bool) or not isinstance(token, int) or token < 0 for token in self.stop_token_ids):
            raise SamplingInvalid("stop_token_ids", "must hold token ids, whole numbers from 0 up")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _integer(param: str, value: object, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SamplingInvalid(param, f"must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        raise SamplingInvalid(
            param, f"must be {f'at least {low}' if high is None else f'{low} to {high}'}, got {value}"
        )


def _number(param: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SamplingInvalid(param, f"must be a finite number, got {value!r}")
    if not low <= value <= high:
        raise SamplingInvalid(param, f"must be {low:g} to {high:g}, got {value:g}")
