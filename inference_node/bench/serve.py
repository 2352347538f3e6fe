"""`trimtab bench serve`: the same load against any OpenAI-compatible server, ours or a peer's. Asserts nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx2

from inference_node.bench.figures import machine, spread, summary_ms, versions
from inference_node.bench.load import Sample, Target, closed_loop, open_loop
from inference_node.bench.loop import run_on_fast_loop
from inference_node.bench.prompts import make_prompts
from inference_node.bench.wire import Address
from inference_node.errors import Invalid, Unavailable


class ServerUnreachable(Unavailable):
    """The server under test does not answer, or not as an OpenAI-compatible one."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The load. `rates_rps` replaces closed loops by open ones; `requests` is per level, by default 2 x concurrency."""

    url: str
    model: str | None = None
    concurrency: tuple[int, ...] = (1, 8, 32)
    rates_rps: tuple[float, ...] = ()
    requests: int | None = None
    prompt_tokens: int = 128
    shared_prefix_tokens: int = 0
    output_tokens: int = 64
    repeats: int = 2
    seed: int = 0
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens", "repeats", "timeout_s"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be above 0, got {getattr(self, name)}")
        if any(level <= 0 for level in (*self.concurrency, *self.rates_rps)):
            raise Invalid("concurrency and rates must be above 0")
        if self.requests is not None and self.requests <= 0:
            raise Invalid(f"requests must be above 0, got {self.requests}")
        if not 0 <= self.shared_prefix_tokens < self.prompt_tokens:
            raise Invalid("shared_prefix_tokens must be at least 0 and below prompt_tokens")


Progress = Callable[[str], None]


def run(options: ServeOptions, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Measure; the whole report as plain values, ready for JSON. Raises ServerUnreachable before any load is sent."""
    return run_on_fast_loop(_run(options, progress))


def model_of(url: str) -> str:
    """The one model that the server there has. Raises ServerUnreachable, Invalid."""

    async def ask() -> str:
        async with httpx2.AsyncClient(base_url=url.rstrip("/"), trust_env=False) as client:
            return await _only_model(client)

    return asyncio.run(ask())


async def _run(options: ServeOptions, progress: Progress) -> dict[str, Any]:
    address = Address.of(options.url)
    async with httpx2.AsyncClient(
        base_url=options.url.rstrip("/"), timeout=options.timeout_s, trust_env=False
    ) as client:
        model = options.model or await _only_model(client)
        target, words_per_token = await _calibrate(address, model, options)
        before = machine()
        levels: list[tuple[int | None, float | None]] = [(None, rate) for rate in options.rates_rps] or [
            (level, None) for level in options.concurrency
        ]
        results = []
        for concurrency, rate in levels:
            progress(f"concurrency {concurrency}" if concurrency else f"{rate} requests/s")
            results.append(await _level(target, options, words_per_token, concurrency, rate))
        return {
            "benchmark": "serve",
            "url": options.url,
            "model": model,
            "server_version": await _server_version(client),
            "hardware": before,
            "versions": versions(),
            "load": {
                **asdict(options),
                "ignore_eos": bool(target.extra),
                "loop": "open" if options.rates_rps else "closed",
            },
            "results": results,
        }


async def _level(
    target: Target, options: ServeOptions, words_per_token: float, concurrency: int | None, rate: float | None
) -> dict[str, Any]:
    count = options.requests or max(4, 2 * (concurrency or 16))
    rates, everything = [], list[Sample]()
    for repeat in range(options.repeats):
        prompts = make_prompts(
            count,
            round(options.prompt_tokens * words_per_token),
            round(options.shared_prefix_tokens * words_per_token),
            # Other prompts in each repeat and level, or a prefix cache would answer from the last one.
            f"{options.seed}/{repeat}/{concurrency}/{rate}",
        )
        if rate is not None:
            samples, elapsed_s = await open_loop(target, prompts, rate, options.seed + repeat)
        else:
            samples, elapsed_s = await closed_loop(target, prompts, concurrency or 1)
        rates.append(sum(sample.output_tokens for sample in samples if sample.error is None) / elapsed_s)
        everything.extend(samples)
    good = [sample for sample in everything if sample.error is None]
    errors = [sample.error for sample in everything if sample.error is not None]
    precision, pruning = _numerics(good)
    return {
        "concurrency": concurrency,
        "rate_rps": rate,
        "precision": precision,
        "pruning_threshold": pruning,
        "requests": len(everything),
        "prompt_tokens_mean": round(sum(s.prompt_tokens for s in good) / len(good), 1) if good else None,
        "output_tokens": sum(sample.output_tokens for sample in good),
        "output_tokens_per_s": round(sum(rates) / len(rates), 3),
        "output_tokens_per_s_spread": spread(rates),
        "ttft_ms": summary_ms([sample.ttft_s for sample in good if sample.ttft_s is not None]),
        "tpot_ms": summary_ms([sample.tpot_s for sample in good if sample.tpot_s is not None]),
        "itl_ms": summary_ms([gap for sample in good for gap in sample.gaps_s]),
        "e2e_ms": summary_ms([sample.e2e_s for sample in good if sample.e2e_s is not None]),
        "errors": len(errors),
        "error_examples": sorted({str(error) for error in errors})[:3],
    }


async def _calibrate(address: Address, model: str, options: ServeOptions) -> tuple[Target, float]:
    """Warm up, learn how many words a token is, and whether the server can ignore the end-of-text token."""
    words = options.prompt_tokens
    (prompt,) = make_prompts(1, words, 0, f"{options.seed}/warm-up")
    # Answers of a set length need vLLM's ignore_eos; a server that refuses it is measured with answers as they come.
    for extra in ({"ignore_eos": True}, {}):
        target = Target(address, model, options.output_tokens, extra, options.timeout_s)
        sample = await target.ask(prompt)
        if sample.error is None:
            return target, words / sample.prompt_tokens if sample.prompt_tokens else 1.0
    raise ServerUnreachable(f"{options.url} does not answer /v1/completions as asked: {sample.error}")


async def _only_model(client: httpx2.AsyncClient) -> str:
    try:
        models = (await client.get("/v1/models")).raise_for_status().json()["data"]
        if len(models) != 1:
            raise Invalid(f"the server has {len(models)} models; name one")
        return str(models[0]["id"])
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServerUnreachable(
            f"{client.base_url} does not list its models: {error}. Is the server running, and the address right?"
        ) from None


async def _server_version(client: httpx2.AsyncClient) -> str | None:
    try:
        return str((await client.get("/version")).json()["version"])
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        return None


def _numerics(samples: list[Sample]) -> tuple[str | None, float | None]:
    """Precision and pruning, from the fingerprint that our nodes put on each answer; (None, None) for other servers."""
    marks = {sample.fingerprint for sample in samples}
    if len(marks) != 1 or not (mark := next(iter(marks)) or "").startswith("fp_"):
        return None, None
    precision, _, rest = mark.removeprefix("fp_").partition("|")
    try:
        return precision, float(rest.rpartition("|")[2])
    except ValueError:
        return None, None
