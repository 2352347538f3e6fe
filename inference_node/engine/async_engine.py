"""The engine on an event loop: requests and settings in, deltas out. Its replicas step on threads of their own."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from inference_node.config import NodeConfig
from inference_node.contract.messages import AckOutcome, NodeCapabilities, NodeHardware
from inference_node.contract.quality import NodeQuality
from inference_node.contract.served import ServedQuality, ServedWatch
from inference_node.contract.settings import EngineSettings, KnobBounds
from inference_node.contract.step_profile import StepProfile
from inference_node.engine.answer import Answer
from inference_node.engine.certifier import Certifier
from inference_node.engine.engine import Change
from inference_node.engine.errors import (
    EngineStopped,
    PromptTooLong,
    QueueFull,
    RequestInvalid,
    SettingsRefused,
    Superseded,
)
from inference_node.engine.listener import EngineListener, SilentListener
from inference_node.engine.load import Loaded, load
from inference_node.engine.own_thread import in_own_thread
from inference_node.engine.replica import Replica
from inference_node.engine.replicas import Replicas
from inference_node.engine.requests import EngineRequest, TokenDelta
from inference_node.engine.serving import Applied, EngineStats
from inference_node.engine.shadow import Shadow
from inference_node.engine.streams import TokenStream
from inference_node.engine.token_bytes import TokenBytes

_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
# An engine that took no step for so long has time to measure what it runs.
_IDLE_S = 30.0

log = logging.getLogger(__name__)
T = TypeVar("T")


class AsyncEngine:
    """Implements `ServingEngine`. Made by `load` on any thread, then belongs to the event loop that calls `start`."""

    def __init__(self, config: NodeConfig, loaded: Loaded, listener: EngineListener) -> None:
        self._config = config
        self._loaded = loaded
        # Weights are prepared and measured beside the first.
        self._first = loaded.engines[0]
        self._replicas = Replicas(
            [Replica(number, *each) for number, each in enumerate(zip(loaded.engines, loaded.placements, strict=True))]
        )
        self._reconfigurer = loaded.reconfigurer
        self._certifier = Certifier(loaded.guard, loaded.reconfigurer)
        self._shadow = Shadow(
            self._first.runner,
            loaded.reconfigurer,
            lambda: self._in_force,
            self._aside,
            allowed=config.score_served,
        )
        for replica in self._replicas.all:
            replica.engine.served = self._shadow.text
        self._certifying: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[str, TokenStream] = {}
        self._token_bytes = TokenBytes.of(loaded.tokenizer.backend_tokenizer)
        self._accepting = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._applies: set[asyncio.Task[Applied]] = set()
        self._apply_number = 0
        self._in_force: EngineSettings = self._first.settings  # of all replicas
        self._wanted: EngineSettings = self._first.settings
        self._ordered: EngineSettings = self._first.settings  # in force, or about to be
        self._bounds: KnobBounds | None = None
        self._preparing: EngineSettings | None = None

    @classmethod
    def load(
        cls,
        config: NodeConfig,
        settings: EngineSettings | None = None,
        *,
        listener: EngineListener | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> Self:
        """Reads weights, prepares the precision, warms up and probes step times: seconds, blocking.

        Without settings, those of the configuration.

        progress(what, share) with share from 0 to 1. Raises ModelNotFound, ModelInvalid, ModelUnsupported, ConfigInvalid,
        SettingsRefused: each a NodeError whose text is for the operator.
        """
        hearing = listener or SilentListener()
        telling = progress or (lambda what, share: None)
        return cls(config, in_own_thread(lambda: load(config, settings, hearing, telling), "load engine"), hearing)

    @property
    def tokenizer(self) -> Any:
        return self._loaded.tokenizer

    @property
    def model_name(self) -> str:
        return self._config.model_name

    @property
    def max_model_len(self) -> int:
        return self._loaded.capabilities.max_model_len

    @property
    def capabilities(self) -> NodeCapabilities:
        return self._loaded.capabilities

    @property
    def hardware(self) -> NodeHardware:
        return self._loaded.hardware

    @property
    def settings(self) -> EngineSettings:
        return self._in_force

    @property
    def last_error(self) -> str | None:
        return next((each.last_error for each in self._loaded.engines if each.last_error is not None), None)

    def start(self) -> None:
        assert self._loop is None, "an engine starts once"
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._replicas.start(self._post, self._deliver)
        self._loaded.learner.start()
        self._certifying = asyncio.create_task(self._certify_when_idle(), name="certify")

    async def shutdown(self, drain_s: float) -> None:
        """As in ServingEngine. Again does nothing."""
        self._accepting = False
        self._shadow.stop()
        self._apply_number += 1  # gives up what is being prepared
        if self._replicas.is_alive:
            if not self._idle.is_set():
                try:
                    await asyncio.wait_for(self._idle.wait(), max(0.0, drain_s))
                except TimeoutError:
                    log.warning("drain time is over, cancelling %d requests", len(self._streams))
            await asyncio.to_thread(self._replicas.stop)
            await asyncio.sleep(0)  # lets the last deltas, posted by the threads, reach their streams
        for task in (*self._applies, self._certifying, self._warming):
            if task is not None:
                task.cancel()
        self._preparer.shutdown(wait=False)
        await asyncio.to_thread(self._loaded.learner.stop)

    async def submit(self, request: EngineRequest) -> TokenStream:
        prompt = request.prompt_token_ids
        self._listener.on_request_offered(len(prompt))
        try:
            self._admit(request)
        except (EngineStopped, QueueFull, PromptTooLong, RequestInvalid) as error:
            self._listener.on_request_rejected(_REJECTIONS[type(error)])
            raise
        answer = Answer(
            request,
            self.tokenizer.backend_tokenizer,
            eos=self._loaded.spec.eos_token_ids,
            max_model_len=self.max_model_len,
            arrived_s=time.monotonic(),
            token_bytes=self._token_bytes,
        )
        stream = TokenStream(request.request_id, lambda _: self._replicas.cancel(answer))
        self._streams[request.request_id] = stream
        self._idle.clear()
        self._replicas.add(answer)
        return stream

    async def apply(
        self, settings: EngineSettings, *, bounds: Mapping[str, KnobBounds] | None = None, force: bool = False
    ) -> Applied:
        self._require_running()
        self._reconfigurer.check(settings)
        is_new = settings.numerics_key() != self._ordered.numerics_key()
        forced = force and is_new and self._certifier.overrides(settings)
        is_certified = force or not is_new or self._certifier.admits(settings)
        self._apply_number += 1
        self._wanted = settings
        bound = (bounds or {}).get("max_batch_size")
        if (settings, bound) == (self._ordered, self._bounds) and not self._applies:
            return Applied(self.stats().step + 1, settings, AckOutcome.UNCHANGED)
        if is_certified and self._reconfigurer.is_ready(settings, self._first.runner):
            return await self._order(settings, bound, forced)
        task = asyncio.create_task(self._prepare_and_order(settings, bound, self._apply_number, is_certified, forced))
        self._applies.add(task)
        task.add_done_callback(self._forget_apply)
        return await asyncio.shield(task)

    def stats(self) -> EngineStats:
        each = self._replicas.stats()
        used, total = sum(one.blocks_used for one in each), sum(one.blocks_total for one in each)
        return EngineStats(
            running=sum(one.running for one in each),
            waiting=sum(one.waiting for one in each),
            kv_usage=used / total,
            blocks_total=total,
            blocks_used=used,
            blocks_cached=sum(one.blocks_cached for one in each),
            block_size=self._first.blocks.block_size,
            step=max(engine.step_number for engine in self._loaded.engines),
            batch_cap=sum(one.batch_cap for one in each),
            preemptions=sum(one.preemptions for one in each),
            pruned_ratio=sum(one.pruned_ratio for one in each) / len(each),
            numerics=self._in_force.numerics_key(),
            accepting=self._accepting,
            preparing=self._preparing,
            failed_steps=sum(one.failed_steps for one in each),
            measuring=self._certifier.progress,
            replicas=each,
        )

    def quality(self) -> NodeQuality:
        return self._certifier.quality

    def watch_served(self, watch: ServedWatch | None) -> None:
        if self._accepting:
            self._shadow.watch(watch)

    def served(self) -> ServedQuality | None:
        return self._shadow.quality

    def step_profile(self) -> StepProfile:
        return self._loaded.learner.model.snapshot()

    def step_error(self) -> tuple[float, float] | None:
        return self._loaded.learner.model.error()

    def drop_unused_formats(self) -> None:
        """Lets go of the weights of every precision but the running one."""
        self._reconfigurer.drop_unused(self._in_force.precision)

    # On the event loop ------------------------------------------------------------------------------------------------

    def _require_running(self) -> None:
        if not self._accepting:
            raise EngineStopped("the engine takes nothing new: it is starting, draining or stopped")

    def _admit(self, request: EngineRequest) -> None:
        self._require_running()
        prompt, vocabulary = request.prompt_token_ids, self._loaded.spec.vocab_size
        if not prompt:
            raise RequestInvalid("prompt", "must hold at least one token")
        if len(prompt) >= self.max_model_len:
            raise PromptTooLong(self.max_model_len - 1, len(prompt))
        if min(prompt) < 0 or max(prompt) >= vocabulary:
            raise RequestInvalid("prompt", f"holds a token id outside 0 to {vocabulary - 1}")
        if request.request_id in self._streams:
            raise RequestInvalid("request_id", f"{request.request_id!r} is being served already")
        each = self._replicas.stats()
        # Those that the next steps can take do not queue.
        room = sum(max(0, one.batch_cap - one.running) for one in each)
        queued = sum(one.waiting for one in each) - room
        if queued >= self._in_force.max_queue:
            served_s = max(one.service_s for one in each)
            wait = served_s * (queued + 1) / sum(one.batch_cap for one in each)
            retry = float(math.ceil(min(max(wait, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)))
            raise QueueFull(queued, self._in_force.max_queue, retry)

    async def _prepare_and_order(
        self, settings: EngineSettings, bound: KnobBounds | None, number: int, is_certified: bool, forced: bool
    ) -> Applied:
        await self._prepare(settings, number, is_certified)
        if number != self._apply_number:
            raise Superseded("newer settings took the place of these while they were being prepared")
        return await self._order(settings, bound, forced)

    def _order(self, settings: EngineSettings, bound: KnobBounds | None, forced: bool) -> "asyncio.Future[Applied]":
        """Queues settings that are ready, behind those queued before; each replica's thread applies them in this order."""
        assert self._loop is not None
        before = (self._ordered, self._bounds)
        self._ordered, self._bounds = settings, bound
        applied = self._replicas.order(self._changes(settings, bound), forced)
        settled = asyncio.ensure_future(self._settle(applied, settings, bound, before))
        settled.add_done_callback(_see_exception)
        return asyncio.shield(settled)

    def _changes(self, settings: EngineSettings, bound: KnobBounds | None) -> list[Change]:
        numerics = (self._reconfigurer.numerics(settings, memory) for memory in self._loaded.memories)
        return [Change(settings, each, bound) for each in numerics]

    async def _settle(
        self,
        applied: "asyncio.Future[Applied]",
        settings: EngineSettings,
        bound: KnobBounds | None,
        before: tuple[EngineSettings, KnobBounds | None],
    ) -> Applied:
        """Settings are in force when all replicas run under them. When one cannot, none does: the rest goes back."""
        try:
            result = await applied
        except EngineStopped:
            raise
        except Exception:
            if self._ordered is settings and len(self._loaded.engines) > 1:
                self._ordered, self._bounds = before
                await self._replicas.order(self._changes(*before), False)
            raise
        self._in_force = settings
        return result

    async def _prepare(self, settings: EngineSettings, number: int, is_certified: bool) -> None:
        assert self._loop is not None
        self._preparing = settings

        def is_wanted() -> bool:
            # A repeated push of the same precision goes on with what this one has begun.
            return self._apply_number == number or (self._accepting and self._wanted.precision is settings.precision)

        def is_measured_for() -> bool:
            wanted = self._wanted.numerics_key() == settings.numerics_key()
            return self._apply_number == number or (self._accepting and wanted)

        running = self._in_force.precision
        try:
            await self._aside(
                lambda: self._reconfigurer.prepare(settings, self._first.runner, running, is_wanted), "prepare"
            )
            if not is_certified:
                await self._aside(
                    lambda: self._certifier.certify(settings, running, is_measured_for), "measure quality"
                )
        finally:
            if self._preparing is settings:
                self._preparing = None

    async def _aside(self, work: Callable[[], T], name: str) -> T:
        """One at a time, in a thread that ends with it: see own_thread."""

        def placed() -> T:
            self._loaded.placements[0].enter()  # what is written first from there lies in its memory
            return work()

        assert self._loop is not None
        return await self._loop.run_in_executor(self._preparer, in_own_thread, placed, name)

    async def _certify_when_idle(self) -> None:
        """What runs without a record, since the node started with it or was forced to, gets one when there is time."""
        last_step = -1
        while True:
            await asyncio.sleep(_IDLE_S)
            settings, step = self._in_force, self.stats().step
            was_busy, last_step = step != last_step, step
            if was_busy or self._streams or self._applies or not self._certifier.wants(settings):
                continue
            with contextlib.suppress(Superseded):
                await self._certify_running(settings)

    async def _certify_running(self, settings: EngineSettings) -> None:
        def is_wanted() -> bool:
            return self._accepting and not self._applies

        try:
            await self._aside(
                lambda: self._certifier.certify(settings, settings.precision, is_wanted), "measure quality"
            )
        except SettingsRefused as error:
            log.warning("what runs would not pass the quality guard: %s", error)

    async def _warm_up(self) -> None:
        """The sizes of step that were left out so that weights came into force sooner. A preparation goes first."""
        try:
            while self._accepting and self._preparing is None:
                if not await self._aside(self._warm_one, "warm up"):
                    return
        except Exception as error:  # noqa: BLE001 - steps of other sizes stand in
            log.warning(
                "steps of some sizes could not be prepared and take longer: %s: %s", type(error).__name__, error
            )

    def _warm_one(self) -> bool:
        return self._reconfigurer.warm_next(self._first.runner, self._in_force.precision)

    def _forget_apply(self, task: asyncio.Task[Applied]) -> None:
        self._applies.discard(task)
        _see_exception(task)
        if self._accepting and not self._applies and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm_up(), name="warm up")

    def _deliver(self, deltas: list[TokenDelta]) -> None:
        for delta in deltas:
            stream = self._streams.get(delta.request_id)
            if stream is None:
                continue
            if delta.finish_reason is not None:
                del self._streams[delta.request_id]
            stream.put(delta)
        if not self._streams:
            self._idle.set()

    def _post(self, callback: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            log.warning("the event loop ended before the engine")


_REJECTIONS: dict[type[Exception], str] = {
    EngineStopped: "stopped",
    QueueFull: "queue_full",
    PromptTooLong: "prompt_too_long",
    RequestInvalid: "invalid",
}


def _see_exception(future: asyncio.Future[Applied]) -> None:
    """Marks a failure as seen: whoever asked may have gone, and asyncio would complain that nobody heard of it."""
    if not future.cancelled():
        future.exception()
