"""All the engine requests behind one HTTP request: n answers to each prompt, started together and ended together."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from fastapi import Request
from starlette.types import Receive

from inference_node.engine.requests import EngineRequest, FinishReason, TokenDelta, TokenLogprob
from inference_node.engine.serving import ServingEngine
from inference_node.engine.streams import TokenStream
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.server.problems import CutShort, GenerationFailed, ReaderTooSlow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a request wants to be treated among others; as in EngineRequest."""

    priority: int = 0
    deadline_s: float | None = None
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt and how it shall be answered."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams


class Generation:
    """Running answers. `batch` for what they bring, `cancel` to end what still runs. Choices count prompt by prompt."""

    def __init__(self, streams: list[TokenStream]) -> None:
        self._streams = streams
        self._running = len(streams)
        self._reader: asyncio.Future[None] | None = None
        self._abandoned = False
        for stream in streams:
            stream.on_delta = self._wake

    @classmethod
    async def start(cls, engine: ServingEngine, request_id: str, asks: Sequence[Ask], choices: int, wish: Wish) -> Self:
        """Submit all. If one is not admitted, none runs and its error is raised (QueueFull, PromptTooLong, ...)."""
        streams: list[TokenStream] = []
        try:
            for ask in asks:
                for choice in range(choices):
                    name = f"{request_id}-{len(streams)}"
                    sampling = _sampling_of_choice(ask.sampling, choice)
                    request = EngineRequest(
                        name, ask.prompt_token_ids, sampling, wish.priority, wish.deadline_s, wish.cache_salt
                    )
                    streams.append(await engine.submit(request))
        except BaseException:
            cls(streams).cancel()
            raise
        return cls(streams)

    def limit_unread(self, tokens: int) -> None:
        """From now on a choice whose reader leaves so many tokens unread is cut."""
        for stream in self._streams:
            stream.max_unread = tokens

    def cancel(self) -> None:
        for stream in self._streams:
            stream.cancel()

    def abandon(self) -> None:
        """Nobody will read any more: cancel, and let whoever waits in `batch` go."""
        self._abandoned = True
        self.cancel()
        self._wake()

    def __len__(self) -> int:
        return len(self._streams)

    async def batch(self) -> list[tuple[int, TokenDelta]]:
        """(choice index, delta) of all that came since the last call, at least one; empty when every answer has ended.

        One wake-up brings what a step made for all choices. Raises GenerationFailed, CutShort or ReaderTooSlow as soon as one
        answer is lost, and cancels the others.
        """
        while self._running and not self._abandoned:
            batch = [(index, delta) for index, stream in enumerate(self._streams) for delta in stream.take()]
            if batch:
                for _, delta in batch:
                    if delta.finish_reason is not None:
                        self._running -= 1
                        self._refuse_if_lost(delta)
                return batch
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return []

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _refuse_if_lost(self, delta: TokenDelta) -> None:
        if delta.finish_reason not in (FinishReason.ERROR, FinishReason.CANCELLED):
            return
        self.cancel()
        if delta.finish_reason is FinishReason.ERROR:
            raise GenerationFailed(f"the engine failed on this request: {delta.error or 'no cause was told'}")
        if delta.error is not None:
            raise ReaderTooSlow(f"this answer was cut: {delta.error}; read faster, or ask for a shorter one")
        raise CutShort("the node is shutting down; this answer is cut short, ask another node for it")


def _sampling_of_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Each further choice draws with a seed of its own, or n seeded answers would be n times the same."""
    if sampling.seed is None or choice == 0:
        return sampling
    # Counting down from a seed at the top of its range keeps it inside.
    return replace(sampling, seed=sampling.seed + choice if sampling.seed < 2**63 else sampling.seed - choice)


@dataclass(slots=True)
class Tally:
    """What is counted of one choice as it grows."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    numerics: list[str] = field(default_factory=list)

    def count(self, delta: TokenDelta) -> None:
        self.num_prompt_tokens = delta.num_prompt_tokens
        self.num_cached_tokens = delta.num_cached_tokens
        self.num_generated_tokens = delta.num_generated_tokens
        if delta.token_ids and (not self.numerics or self.numerics[-1] != delta.numerics):
            self.numerics.append(delta.numerics)


@dataclass(slots=True)
class Answer:
    """One choice, kept whole."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None

    def add(self, delta: TokenDelta) -> None:
        self.text.append(delta.text)
        self.logprobs.extend(delta.logprobs or ())
        self.finish_reason = delta.finish_reason
        self.stop_reason = delta.stop_reason


class Tallies:
    """The counts of all choices of one HTTP request."""

    def __init__(self, choices_per_prompt: int, total: int) -> None:
        self._per_prompt = choices_per_prompt
        self.choices = [Tally() for _ in range(total)]

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object; a prompt counts once, however many answers it gets."""
        prompts = self.choices[:: self._per_prompt]
        prompt = sum(choice.num_prompt_tokens for choice in prompts)
        completion = sum(choice.num_generated_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(choice.num_cached_tokens for choice in prompts)},
        }

    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: the arithmetic that made these answers, in order where it changed on the way."""
        return fingerprint(dict.fromkeys(name for choice in self.choices for name in choice.numerics))


async def gather(generation: Generation, tallies: Tallies) -> list[Answer]:
    """All answers once they have ended, counted into `tallies`. Raises as `Generation.batch` does."""
    answers = [Answer() for _ in range(len(generation))]
    try:
        while batch := await generation.batch():
            for index, delta in batch:
                tallies.choices[index].count(delta)
                answers[index].add(delta)
    finally:
        generation.cancel()
    return answers


def fingerprint(numerics: Sequence[str] | dict[str, None]) -> str:
    return "fp_" + ">".join(numerics)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None when the client goes away first, and then `work` is cancelled.

    The request's body must have been read: after it, the only thing left to receive is the disconnect.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone away. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
