"""What clients may ask: OpenAI's request bodies with vLLM's extras. Types are strict; what we do not do is refused by name.

Ranges of sampling parameters are checked where they are used, in `SamplingParams`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_CHOICES: Final = 128

# Parameters of OpenAI or vLLM that this node lacks, with the values that ask for nothing.
_UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "prediction": (),
    "prompt_logprobs": (),
    "reasoning_effort": ("none",),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# Accepted and without effect on the tokens: bookkeeping on OpenAI's side.
_IGNORED: Final = frozenset(
    {"metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}
)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = Field(
        default=None,
        description="vLLM's: every chunk carries the usage so far, also those of a token that shows no text yet",
    )


def _strings(value: Any) -> Any:
    if value is None or (isinstance(value, list) and all(isinstance(text, str) for text in value)):
        return value
    if isinstance(value, str):
        return [value]
    raise PydanticCustomError("strings", "must be a string or a list of strings")


class GenerationRequest(BaseModel):
    """What both generation endpoints share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(default=None, description="absent: the one model of this node")
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_strings)] = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # vLLM's extras
    top_k: int | None = Field(default=None, description="0 or -1: off")
    min_p: float | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    priority: int = Field(default=0, ge=-(2**31), le=2**31, description="lower runs first")
    cache_salt: str | None = Field(
        default=None, min_length=1, description="cached prefixes are shared only among requests of an equal one"
    )
    # Our own
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="from arrival to the first token, for the policy `deadline`; the header x-deadline-ms says the same",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_name(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name, value in data.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name in _UNSUPPORTED:
                if value is not None and value not in _UNSUPPORTED[name]:
                    raise PydanticCustomError("unsupported", "{param} is not supported by this node", {"param": name})
            elif name not in _IGNORED:
                kept[name] = value  # refused as unknown
        return kept

    @model_validator(mode="after")
    def _options_fit(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError(
                "stream_options", "{param} goes only with stream=true", {"param": "stream_options"}
            )
        if self.n is not None and not 1 <= self.n <= MAX_CHOICES:
            raise PydanticCustomError("n", f"{{param}} must be 1 to {MAX_CHOICES}, got {self.n}", {"param": "n"})
        return self

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_running_usage(self) -> bool:
        # As vLLM has it: the running figures come only to who asked for the last ones.
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


def _text_parts(value: Any) -> Any:
    """Content as text, also when it comes as a list of text parts."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        texts = []
        for part in value:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise PydanticCustomError("part", f"this node reads text parts only, got {kind!r}")
            texts.append(part["text"])
        return "".join(texts)
    raise PydanticCustomError("content", "must be a string or a list of text parts")


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_parts)]
    name: str | None = None
    refusal: None = None
    # An assistant's earlier answer comes back with these as null or empty.
    tool_calls: list[Any] | None = Field(default=None, max_length=0)
    function_call: None = None
    annotations: list[Any] | None = None
    audio: None = None

    def for_template(self) -> dict[str, str]:
        """As chat templates know it; `developer` is OpenAI's newer word for `system`."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ChatCompletionRequest(GenerationRequest):
    """Body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _logprobs_fit(self) -> "ChatCompletionRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "{param} goes only with logprobs=true", {"param": "top_logprobs"})
        return self

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


Prompts = list[str | list[int]]


def _prompts(value: Any) -> Any:
    """One or many prompts, each a text or token ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        kinds = set(map(type, value))  # one pass in C: a body may hold two million ids
        if kinds == {str}:
            return value
        if kinds == {int}:
            return [value]
        if kinds == {list} and all(set(map(type, item)) == {int} for item in value):
            return value
    raise PydanticCustomError("prompt", "must be a string, token ids, or a list of strings or of token-id lists")


class CompletionRequest(GenerationRequest):
    """Body of `POST /v1/completions`."""

    prompt: Annotated[Prompts, BeforeValidator(_prompts)] = Field(max_length=MAX_CHOICES)
    logprobs: int | None = None


class TokenizeRequest(BaseModel):
    """Body of `POST /tokenize`, as vLLM has it: a prompt or chat messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> "TokenizeRequest":
        if (self.prompt is None) == (not self.messages):
            raise PydanticCustomError("prompt", "give either {param} or messages", {"param": "prompt"})
        return self


class DetokenizeRequest(BaseModel):
    """Body of `POST /detokenize`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = None
    tokens: list[int]
