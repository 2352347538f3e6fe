"""All the engine requests behind one HTTP request: n answers to each prompt, started together and ended together."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from fastapi import Request

from inference_node.engine.requests import EngineRequest, FinishReason, TokenDelta, TokenLogprob
from inference_node.engine.serving import ServingEngine
from inference_node.engine.streams import TokenStream
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.server.problems import CutShort, GenerationFailed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt and how it shall be answered."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams


class Generation:
    """Running answers. Iterate for (choice index, delta); `cancel` ends what still runs. Choices count prompt by prompt."""

    def __init__(self, streams: list[TokenStream]) -> None:
        self._streams = streams

    @classmethod
    async def start(
        cls,
        engine: ServingEngine,
        request_id: str,
        asks: Sequence[Ask],
        choices: int,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> Self:
        """Submit all. If one is not admitted, none runs and its error is raised (QueueFull, PromptTooLong, ...)."""
        generation = cls([])
        try:
            for ask in asks:
                for choice in range(choices):
                    name = f"{request_id}-{len(generation._streams)}"
                    sampling = _sampling_of_choice(ask.sampling, choice)
                    request = EngineRequest(name, ask.prompt_token_ids, sampling, priority, deadline_s)
                    generation._streams.append(await engine.submit(request))
        except BaseException:
            generation.cancel()
            raise
        return generation

    def cancel(self) -> None:
        for stream in self._streams:
            stream.cancel()

    def __len__(self) -> int:
        return len(self._streams)

    async def __aiter__(self) -> AsyncIterator[tuple[int, TokenDelta]]:
        """Raises GenerationFailed or CutShort as soon as one answer is lost, and cancels the others."""
        try:
            async for index, delta in self._merged():
                if delta.finish_reason is FinishReason.ERROR:
                    raise GenerationFailed(f"the engine failed on this request: {delta.error or 'no cause was told'}")
                if delta.finish_reason is FinishReason.CANCELLED:
                    raise CutShort("the node is shutting down; this answer is cut short, ask another node for it")
                yield index, delta
        finally:
            self.cancel()

    async def _merged(self) -> AsyncIterator[tuple[int, TokenDelta]]:
        if len(self._streams) == 1:
            async for delta in self._streams[0]:
                yield 0, delta
            return
        queue: asyncio.Queue[tuple[int, TokenDelta]] = asyncio.Queue()

        async def pump(index: int, stream: TokenStream) -> None:
            async for delta in stream:
                queue.put_nowait((index, delta))

        pumps = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(self._streams)]
        running = len(pumps)
        try:
            while running:
                index, delta = await queue.get()
                running -= delta.finish_reason is not None
                yield index, delta
        finally:
            for task in pumps:
                task.cancel()


def _sampling_of_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Each further choice draws with a seed of its own, or n seeded answers would be n times the same."""
    if sampling.seed is None or choice == 0:
        return sampling
    # Counting down from a seed at the top of its range keeps it inside.
    return replace(sampling, seed=sampling.seed + choice if sampling.seed < 2**63 else sampling.seed - choice)


@dataclass(slots=True)
class Answer:
    """One choice as it grows."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    numerics: list[str] = field(default_factory=list)

    def add(self, delta: TokenDelta) -> None:
        self.text.append(delta.text)
        self.logprobs.extend(delta.logprobs or ())
        self.finish_reason = delta.finish_reason
        self.stop_reason = delta.stop_reason
        self.num_prompt_tokens = delta.num_prompt_tokens
        self.num_cached_tokens = delta.num_cached_tokens
        self.num_generated_tokens = delta.num_generated_tokens
        if delta.token_ids and delta.numerics not in self.numerics[-1:]:
            self.numerics.append(delta.numerics)


class Answers:
    """All choices of one HTTP request, gathered delta by delta."""

    def __init__(self, choices_per_prompt: int, total: int) -> None:
        self._per_prompt = choices_per_prompt
        self.choices = [Answer() for _ in range(total)]

    @classmethod
    async def gather(cls, generation: Generation, choices_per_prompt: int) -> Self:
        answers = cls(choices_per_prompt, len(generation))
        async for index, delta in generation:
            answers.choices[index].add(delta)
        return answers

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object; a prompt counts once, however many answers it gets."""
        prompts = self.choices[:: self._per_prompt]
        prompt, completion = (
            sum(a.num_prompt_tokens for a in prompts),
            sum(a.num_generated_tokens for a in self.choices),
        )
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(a.num_cached_tokens for a in prompts)},
        }

    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: the arithmetic that made these answers, in order where it changed on the way."""
        return fingerprint(dict.fromkeys(name for answer in self.choices for name in answer.numerics))


def fingerprint(numerics: Sequence[str] | dict[str, None]) -> str:
    return "fp_" + ">".join(numerics)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None when the client goes away first, and then `work` is cancelled.

    The request's body must have been read: after it, the only thing left to receive is the disconnect.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
