"""A small honest engine without a model: it speaks the whole `ServingEngine` protocol, and its answers are the prompt's bytes.

What it says is deterministic: the answer repeats the prompt from its start, one byte a token, so that a test can tell a
truncated or doubled token. Steps are real turns of the event loop; time passes only where a test asks for it.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from inference_node.contract.messages import AckOutcome, NodeCapabilities, NodeHardware, RejectCode
from inference_node.contract.quality import NodeQuality
from inference_node.contract.served import ServedQuality, ServedWatch
from inference_node.contract.settings import EngineSettings, KnobBounds, Precision
from inference_node.contract.step_profile import StepProfile, StepSample
from inference_node.engine.errors import EngineStopped, PromptTooLong, QueueFull, SettingsRefused, Superseded
from inference_node.engine.listener import EngineListener, RequestRecord, SilentListener
from inference_node.engine.requests import (
    EngineRequest,
    FinishReason,
    RequestTiming,
    TokenDelta,
    TokenLogprob,
    TopLogprob,
)
from inference_node.engine.serving import Applied, EngineStats, ReplicaStats
from inference_node.engine.streams import TokenStream
from tests.support.quality_records import quality_record


class ByteTokenizer:
    """A token is a byte of UTF-8; 256 ends a text."""

    chat_template = "built in"

    def __len__(self) -> int:
        return 257

    def encode(self, text: str, *, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        return text + ("<assistant>" if add_generation_prompt else "")


class FakeEngine:
    """See the module. The attributes below steer it from a test."""

    def __init__(self, settings: EngineSettings | None = None, *, max_model_len: int = 128) -> None:
        self.listener: EngineListener = SilentListener()
        self.queue_full = False
        self.fail_after: int | None = None  # tokens after which each request ends in an error
        self.hold = asyncio.Event()  # cleared: no step is taken
        self.hold.set()
        self.prepare = asyncio.Event()  # cleared: background knobs stay in preparation
        self.prepare.set()
        self.refuse: SettingsRefused | None = None
        self.needs_force: SettingsRefused | None = None  # raised by an apply without force
        self.cancelled: list[str] = []
        self.requests: list[EngineRequest] = []
        self.applied: list[EngineSettings] = []
        self.last_error: str | None = None
        self.watches: list[ServedWatch | None] = []
        self.served_quality: ServedQuality | None = None
        self.tokenizer: Any = ByteTokenizer()
        self.model_name = "fake"
        self.max_model_len = max_model_len
        self.capabilities = NodeCapabilities(
            precisions=(Precision.FP32, Precision.BF16, Precision.INT8),
            max_batch_size=32,
            max_batched_tokens=2048,
            max_model_len=max_model_len,
            kv_tokens=4096,
        )
        self.hardware = NodeHardware(device="cpu", cpu_cores=2, threads=1, memory_bytes=1 << 30)
        self._settings = settings or EngineSettings()
        self._accepting = False
        self._step = 0
        self._apply_calls = itertools.count(1)
        self._newest_apply = 0
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def settings(self) -> EngineSettings:
        return self._settings

    def start(self) -> None:
        self._accepting = True

    async def shutdown(self, drain_s: float) -> None:
        self._accepting = False
        if self._running:
            await asyncio.wait(self._running.values(), timeout=drain_s)
        for request_id in list(self._running):
            self._cancel(request_id)
        while self._running:
            await asyncio.sleep(0)

    async def submit(self, request: EngineRequest) -> TokenStream:
        self.listener.on_request_offered(len(request.prompt_token_ids))
        if not self._accepting:
            raise EngineStopped("the engine takes no requests")
        if self.queue_full:
            self.listener.on_request_rejected("queue_full")
            raise QueueFull(waiting=self._settings.max_queue, limit=self._settings.max_queue, retry_after_s=2.4)
        if len(request.prompt_token_ids) >= self.max_model_len:
            raise PromptTooLong(self.max_model_len, len(request.prompt_token_ids))
        self.requests.append(request)
        stream = TokenStream(request.request_id, self._cancel)
        task = asyncio.create_task(self._generate(request, stream))
        self._running[request.request_id] = task
        return stream

    async def apply(
        self, settings: EngineSettings, *, bounds: Mapping[str, KnobBounds] | None = None, force: bool = False
    ) -> Applied:
        mine = self._newest_apply = next(self._apply_calls)
        if self.refuse is not None:
            raise self.refuse
        if self.needs_force is not None and not force:
            raise self.needs_force
        if settings.precision not in self.capabilities.precisions:
            raise SettingsRefused(RejectCode.NOT_SUPPORTED, "precision", "no such precision here")
        if settings.precision != self._settings.precision:
            await self.prepare.wait()
            if mine != self._newest_apply:
                raise Superseded("a newer change came")
        self._step += 1
        unchanged = settings == self._settings
        self._settings = settings
        if not unchanged:
            self.applied.append(settings)
            self.listener.on_settings_applied(settings, self._step, ())
        return Applied(
            self._step,
            settings,
            AckOutcome.UNCHANGED if unchanged else AckOutcome.APPLIED,
            self.needs_force is not None,
        )

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running),
            waiting=0,
            kv_usage=0.25 if self._running else 0.0,
            blocks_total=256,
            blocks_used=0,
            blocks_cached=0,
            block_size=16,
            step=self._step,
            batch_cap=self._settings.max_batch_size,
            preemptions=0,
            pruned_ratio=0.0,
            numerics=self._settings.numerics_key(),
            accepting=self._accepting,
            preparing=None,
            failed_steps=0,
            replicas=(
                ReplicaStats(
                    number=0,
                    threads=1,
                    cpus=(),
                    numa_node=None,
                    is_bound=True,
                    running=len(self._running),
                    waiting=0,
                    blocks_total=256,
                    blocks_used=0,
                    blocks_cached=0,
                    batch_cap=self._settings.max_batch_size,
                    steps=self._step,
                    preemptions=0,
                    taken_over=0,
                    failed_steps=0,
                    pruned_ratio=0.0,
                    service_s=1.0,
                ),
            ),
        )

    def quality(self) -> NodeQuality:
        return NodeQuality(max_perplexity_ratio=1.15, max_kl=0.3, records=(quality_record(),))

    def watch_served(self, watch: ServedWatch | None) -> None:
        if watch != (self.watches[-1] if self.watches else None):
            self.watches.append(watch)

    def served(self) -> ServedQuality | None:
        return self.served_quality

    def step_profile(self) -> StepProfile:
        cell = StepSample(precision=self._settings.precision, decode_rows=1, prefill_tokens=0, step_s=0.01, samples=3)
        return StepProfile(cells=(cell,))

    def step_error(self) -> tuple[float, float] | None:
        return (0.02, 0.07)

    def _cancel(self, request_id: str) -> None:
        if request_id in self._running and request_id not in self.cancelled:
            self.cancelled.append(request_id)

    async def _generate(self, request: EngineRequest, stream: TokenStream) -> None:
        started = time.monotonic()
        prompt, wanted = request.prompt_token_ids, request.sampling.max_tokens
        count, reason = 0, None
        while reason is None:
            while not self.hold.is_set() and request.request_id not in self.cancelled:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            self._step += 1
            token, error = prompt[count % len(prompt)], None
            count += 1
            if request.request_id in self.cancelled:
                reason, count = FinishReason.CANCELLED, count - 1
            elif self.fail_after is not None and count > self.fail_after:
                reason, error, count = FinishReason.ERROR, "a kernel refused", count - 1
            elif count >= wanted:
                reason = FinishReason.LENGTH
            lost = reason in (FinishReason.CANCELLED, FinishReason.ERROR)
            timing = RequestTiming(started, started, started, time.monotonic()) if reason else None
            stream.put(
                TokenDelta(
                    request_id=request.request_id,
                    token_ids=() if lost else (token,),
                    text="" if lost else self.tokenizer.decode([token]),
                    num_prompt_tokens=len(prompt),
                    num_cached_tokens=0,
                    num_generated_tokens=count,
                    numerics=self._settings.numerics_key(),
                    step=self._step,
                    logprobs=None if lost else self._logprobs(request, token),
                    finish_reason=reason,
                    timing=timing,
                    error=error,
                )
            )
        del self._running[request.request_id]
        assert timing is not None
        self.listener.on_request_finished(
            RequestRecord(request.request_id, reason, timing, len(prompt), 0, count, 0, error)
        )

    def _logprobs(self, request: EngineRequest, token: int) -> tuple[TokenLogprob, ...] | None:
        if request.sampling.logprobs is None:
            return None
        text = self.tokenizer.decode([token])
        top = tuple(TopLogprob(token + i, f"{text}{i or ''}", -0.5 - i) for i in range(request.sampling.logprobs))
        return (TokenLogprob(token, text, -0.5, top),)
