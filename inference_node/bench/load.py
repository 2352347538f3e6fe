"""One streamed completion as a client sees it, and many of them at a set concurrency or rate."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

# Short, common English words: about one token each in most vocabularies, and no two prompts share a prefix by chance.
_TEXT = """
time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room
mother area money story fact month lot right study book eye job word business issue side kind head house
service friend father power
"""
_WORDS = _TEXT.split()


@dataclass(slots=True)
class Sample:
    """What one request showed. Times in seconds; `error` is set when it did not end as asked, and then nothing else counts."""

    started_s: float
    ttft_s: float | None = None
    e2e_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    fingerprint: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load, and what to ask of it."""

    client: httpx2.AsyncClient
    model: str
    output_tokens: int
    extra: dict[str, Any]

    async def ask(self, prompt: str) -> Sample:
        """Never raises for what the server does: that is in the sample's `error`."""
        sample = Sample(time.perf_counter())
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        try:
            async with self.client.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    sample.error = f"{response.status_code}: {response.text[:200]}"
                    return sample
                await _read(response, sample)
        except httpx2.HTTPError as error:
            sample.error = f"{type(error).__name__}: {error}"
        return sample


async def _read(response: httpx2.Response, sample: Sample) -> None:
    last = ended = sample.started_s
    finished, chunks = False, 0
    async for line in response.aiter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        now = time.perf_counter()
        document = json.loads(line[6:])
        if "error" in document:
            sample.error = str(document["error"].get("message", document["error"]))
            return
        if usage := document.get("usage"):
            sample.prompt_tokens, sample.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        sample.fingerprint = document.get("system_fingerprint") or sample.fingerprint
        for choice in document["choices"]:
            if choice.get("finish_reason") is not None:
                finished, ended = True, now
            if not choice.get("text"):
                continue
            chunks += 1
            if sample.ttft_s is None:
                sample.ttft_s = now - sample.started_s
            else:
                sample.gaps_s.append(now - last)
            last = now
    sample.e2e_s = ended - sample.started_s
    sample.output_tokens = sample.output_tokens or chunks
    if not finished:
        sample.error = "the stream ended without a finish_reason"


def make_prompts(count: int, words: int, shared_words: int, seed: str) -> list[str]:
    """`count` prompts of `words` words, the first `shared_words` the same in all. The same seed gives the same prompts."""
    source = random.Random(seed)
    shared = source.choices(_WORDS, k=shared_words)
    return [" ".join(shared + source.choices(_WORDS, k=max(1, words - shared_words))) for _ in range(count)]


async def closed_loop(target: Target, prompts: Sequence[str], concurrency: int) -> tuple[list[Sample], float]:
    """As many at once as `concurrency`, the next as soon as one ends. (samples, seconds from first start to last end)."""
    waiting = list(reversed(prompts))
    samples: list[Sample] = []

    async def client() -> None:
        while waiting:
            samples.append(await target.ask(waiting.pop()))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return samples, time.perf_counter() - started


async def open_loop(target: Target, prompts: Sequence[str], rate_rps: float, seed: int) -> tuple[list[Sample], float]:
    """Poisson arrivals at `rate_rps`, however slow the answers. (samples, seconds from first start to last end)."""
    source = random.Random(seed)
    started = time.perf_counter()
    due, tasks = started, []
    for prompt in prompts:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(target.ask(prompt)))
        due += source.expovariate(rate_rps)
    samples = await asyncio.gather(*tasks)
    return samples, time.perf_counter() - started
