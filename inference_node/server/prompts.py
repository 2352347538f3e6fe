"""Text and chat messages to token ids and back, off the event loop, with errors that name the parameter."""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jinja2 import TemplateError
from tokenizers import decoders

from inference_node.server.openai_schemas import ChatMessage
from inference_node.server.problems import BadRequest

T = TypeVar("T")

# Below this many characters encoding takes well under a millisecond, less than the way to a thread and back.
_INLINE_CHARS = 4_000


class Prompts:
    """One tokenizer. Short texts are encoded on the spot, long ones in one thread, so that a huge prompt stalls no stream.

    Sharing the tokenizer between threads is safe as long as nobody sets truncation or padding on it; nobody here does.
    """

    def __init__(self, tokenizer: Any, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._most_characters: float | None = None
        self._vocab_size = len(tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def from_text(self, text: str, *, special: bool = True, is_prompt: bool = True) -> tuple[int, ...]:
        """Raises BadRequest for an empty prompt, text that is no Unicode, and a prompt that is surely too long."""
        tokens = await self._run(len(text), self._encode, text, special, is_prompt)
        if not tokens:
            raise BadRequest("the prompt is empty", "prompt", "invalid_value")
        return tokens

    def from_tokens(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Raises BadRequest for ids outside the vocabulary."""
        for token in (min(tokens, default=0), max(tokens, default=0)):  # millions of them may come at once
            if not 0 <= token < self._vocab_size:
                raise BadRequest(
                    f"token id {token} is outside the vocabulary, which ends at {self._vocab_size - 1}",
                    "prompt",
                    "invalid_value",
                )
        return tuple(tokens)

    async def from_chat(
        self, messages: Sequence[ChatMessage], *, generation: bool = True, is_prompt: bool = True
    ) -> tuple[int, ...]:
        """Through the model's chat template. Raises BadRequest when it has none or refuses these messages."""
        if not getattr(self._tokenizer, "chat_template", None):
            raise BadRequest("this model has no chat template; use /v1/completions", "messages", "no_chat_template")
        size = sum(len(message.content) for message in messages)
        return await self._run(size, self._encode_chat, messages, generation, is_prompt)

    async def to_text(self, tokens: Sequence[int]) -> str:
        """Raises BadRequest for ids outside the vocabulary."""
        ids = self.from_tokens(tokens)
        return await self._run(len(ids) * 4, self._decode, ids)

    async def _run(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        try:
            if size <= _INLINE_CHARS:
                return work(*arguments)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except UnicodeEncodeError:
            raise BadRequest(
                "the text holds a lone surrogate, which is no Unicode", "prompt", "invalid_value"
            ) from None
        except TemplateError as error:
            raise BadRequest(f"the chat template refuses: {error}", "messages", "invalid_value") from None

    def _encode(self, text: str, special: bool, is_prompt: bool) -> tuple[int, ...]:
        if is_prompt and len(text) > self._longest_prompt():
            # Encoding it would take seconds in which no other long prompt is encoded, only to be refused then.
            raise BadRequest(
                f"the prompt has {len(text)} characters, more than {self._max_model_len} tokens can hold",
                "prompt",
                "context_length_exceeded",
            )
        text.encode()  # lone surrogates end here, and not as a TypeError inside the tokenizer
        return tuple(self._tokenizer.encode(text, add_special_tokens=special, verbose=False))

    def _longest_prompt(self) -> float:
        """Characters that so many of the longest token make; no limit where a normalizer may shrink a text."""
        if self._most_characters is None:
            backend = getattr(self._tokenizer, "backend_tokenizer", None)
            longest = math.inf
            if backend is not None and backend.normalizer is None and isinstance(backend.decoder, decoders.ByteLevel):
                # A byte-level vocabulary writes a byte as a character, and a character has one byte at least.
                longest = max(map(len, backend.get_vocab()))
            self._most_characters = longest * self._max_model_len
        return self._most_characters

    def _encode_chat(self, messages: Sequence[ChatMessage], generation: bool, is_prompt: bool) -> tuple[int, ...]:
        text = self._tokenizer.apply_chat_template(
            [message.for_template() for message in messages], tokenize=False, add_generation_prompt=generation
        )
        return self._encode(text, False, is_prompt)  # the template brings its own special tokens

    def _decode(self, tokens: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))
