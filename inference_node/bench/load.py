"""One streamed completion as a client sees it, and many of them at a set concurrency or rate."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_node.bench.prompts import Prompt
from inference_node.bench.wire import Address, AnswerMalformed, Recording, record


@dataclass(slots=True)
class Sample:
    """What one request showed. Times in seconds; `error` is set when it did not end as asked, and then nothing else counts.

    `gaps_s` lie between pieces of text as they arrived, which is between tokens where the server sends each by itself.
    """

    started_s: float
    ttft_s: float | None = None
    e2e_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    fingerprint: str | None = None
    text: str = ""
    error: str | None = None

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; whole also where a server sends several tokens at once."""
        return sum(self.gaps_s) / (self.output_tokens - 1) if self.gaps_s and self.output_tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load, and what to ask of it."""

    address: Address
    model: str
    output_tokens: int
    extra: dict[str, Any]
    timeout_s: float

    def request(self, prompt: Prompt) -> bytes:
        """As it goes over the wire."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        return self.address.post("/v1/completions", json.dumps(body).encode())

    async def ask(self, prompt: Prompt) -> Sample:
        """Never raises for what the server does: that is in the sample's `error`."""
        return read(await record(self.address, self.request(prompt), self.timeout_s))


def read(recording: Recording) -> Sample:
    """The sample behind a recorded answer."""
    sample = Sample(recording.started_s, error=recording.failure)
    if recording.failure is not None:
        return sample
    try:
        answer = recording.answer()
        if answer.status != 200:
            sample.error = f"{answer.status}: {answer.body[:200].decode(errors='replace')}"
            return sample
        _read_events(sample, [(at, json.loads(data)) for at, data in answer.events() if data != b"[DONE]"])
    except AnswerMalformed as error:
        sample.error = str(error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sample.error = f"this is no answer of an OpenAI-compatible server: {type(error).__name__}: {error}"
    return sample


def _read_events(sample: Sample, events: Sequence[tuple[float, Any]]) -> None:
    last = ended = sample.started_s
    finished, pieces = False, 0
    for at, document in events:
        if "error" in document:
            sample.error = str(document["error"].get("message", document["error"]))
            return
        if usage := document.get("usage"):
            sample.prompt_tokens, sample.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        sample.fingerprint = document.get("system_fingerprint") or sample.fingerprint
        for choice in document["choices"]:
            if choice.get("finish_reason") is not None:
                finished, ended = True, at
            if not choice.get("text"):
                continue
            pieces += 1
            sample.text += choice["text"]
            if sample.ttft_s is None:
                sample.ttft_s = at - sample.started_s
            else:
                sample.gaps_s.append(at - last)
            last = at
    sample.e2e_s = ended - sample.started_s
    sample.output_tokens = sample.output_tokens or pieces
    if not finished:
        sample.error = "the stream ended without a finish_reason"


async def closed_loop(target: Target, prompts: Sequence[Prompt], concurrency: int) -> tuple[list[Sample], float]:
    """As many at once as `concurrency`, the next as soon as one ends. (samples, seconds from first start to last end)."""
    requests = [target.request(prompt) for prompt in prompts]
    recordings, elapsed_s = await record_closed_loop(target, requests, concurrency)
    return [read(recording) for recording in recordings], elapsed_s


async def record_closed_loop(
    target: Target, requests: Sequence[bytes], concurrency: int
) -> tuple[list[Recording], float]:
    """The running part of `closed_loop` alone: what is measured holds no work of ours that can be done before or after."""
    waiting = list(reversed(requests))
    recordings: list[Recording] = []

    async def client() -> None:
        while waiting:
            recordings.append(await record(target.address, waiting.pop(), target.timeout_s))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return recordings, time.perf_counter() - started


async def open_loop(
    target: Target, prompts: Sequence[Prompt], rate_rps: float, seed: int
) -> tuple[list[Sample], float]:
    """Poisson arrivals at `rate_rps`, however slow the answers. (samples, seconds from first start to last end)."""
    source = random.Random(seed)
    requests = [target.request(prompt) for prompt in prompts]
    started = time.perf_counter()
    due, tasks = started, []
    for request in requests:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(record(target.address, request, target.timeout_s)))
        due += source.expovariate(rate_rps)
    recordings = await asyncio.gather(*tasks)
    elapsed_s = time.perf_counter() - started
    return [read(recording) for recording in recordings], elapsed_s
