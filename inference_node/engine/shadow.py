"""Shadow: scores a share of what the engine served again, under the settings in force and under full precision.

Beside the engine and below it in priority, on one thread, and for half of the time at most: what is measured is the answers, and
the canary's latency is measured at the same time. docs/adr/0029 says what is held of clients' texts, and for how long.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import torch
from torch import Tensor

from inference_node.contract.quality import is_full_precision
from inference_node.contract.served import AnswerMix, ServedQuality, ServedSample, ServedWatch
from inference_node.contract.settings import EngineSettings
from inference_node.engine import hardware
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.reconfigure import Reconfigurer
from inference_node.model.backend import Store
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.quality.divergence import NotMeasurable, Places, held_against, look_up
from inference_node.quality.served import ServedText
from inference_node.quality.texts import Window

_LOOK_S = 0.2
FULL = "what is in force is full precision"
NOT_HERE = "this node holds no text of its clients beyond their requests (NODE_SCORE_SERVED)"
OTHERS = "other settings came into force at the node itself"

# Runs work aside from the event loop, one at a time.
Aside = Callable[[Callable[[], None], str], Awaitable[None]]

log = structlog.get_logger("engine.shadow")


@dataclass(slots=True)
class _Scores:
    """What came of one watch. Written by the thread that scores, read by any."""

    watch: ServedWatch
    level: EngineSettings
    before: AnswerMix
    samples: list[ServedSample] = field(default_factory=list)
    divergences: list[Tensor] = field(default_factory=list)
    kl_p99: float | None = None
    broken: int = 0
    unable: str | None = None
    reference: Store | None = None

    def take(self, seen: Places) -> None:
        places = seen.divergences.float()
        self.divergences.append(places)
        self.kl_p99 = float(torch.quantile(torch.cat(self.divergences), 0.99))
        self.samples.append(ServedSample(tokens=len(places), kl=float(places.mean()), agreed=int(seen.same.sum())))


class Shadow:
    """Of one engine, on its event loop; `text` hears what was served. A watch ends with enough samples or other arithmetic."""

    def __init__(
        self,
        runner: ModelRunner,
        reconfigurer: Reconfigurer,
        settings: Callable[[], EngineSettings],
        aside: Aside,
        *,
        allowed: bool,
    ) -> None:
        """settings: those in force. allowed: whether texts may be held at all."""
        self.text = ServedText()
        self._runner, self._reconfigurer, self._settings, self._aside = runner, reconfigurer, settings, aside
        self._allowed = allowed
        self._scores: _Scores | None = None
        self._task: asyncio.Task[None] | None = None

    def watch(self, watch: ServedWatch | None) -> None:
        """Begins; again with the same watch does nothing. With None, the one before ends and is told of no more."""
        if watch == (self._scores and self._scores.watch):
            return
        self.stop()
        if watch is None:
            return
        level = self._settings()
        unable = FULL if is_full_precision(level) else None if self._allowed else NOT_HERE
        self._scores = scores = _Scores(watch, level, self.text.begin(watch if unable is None else None), unable=unable)
        if unable is None:
            self._task = asyncio.create_task(self._keep_scoring(scores), name="score what was served")

    def stop(self) -> None:
        """Forgets all texts and scores."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._scores = None
        self.text.close()

    @property
    def quality(self) -> ServedQuality | None:
        """What came of the watch so far."""
        found = self._scores
        if found is None:
            return None
        return ServedQuality(
            generation=found.watch.generation,
            precision=found.level.precision,
            kv_precision=found.level.kv_precision,
            pruning_threshold=found.level.pruning_threshold,
            samples=tuple(found.samples),
            kl_p99=found.kl_p99,
            broken=found.broken,
            unable=found.unable,
            before=found.before,
            since=self.text.mix,
        )

    async def _keep_scoring(self, scores: _Scores) -> None:
        """Until there is enough, or nothing can be scored. Weights of the reference live as long, where none else has them."""
        try:
            while len(scores.samples) + scores.broken < scores.watch.most:
                if self._settings().numerics_key() != scores.level.numerics_key():
                    scores.unable = OTHERS
                    break
                if (window := self.text.take()) is None:
                    await asyncio.sleep(_LOOK_S)
                    continue
                began = time.monotonic()
                await self._score_aside(window, scores)
                await asyncio.sleep(time.monotonic() - began)
        except SettingsRefused as error:  # no memory for the reference
            scores.unable = error.message[:300]
        except Exception as error:  # a bug of ours must cost the node no more than this
            scores.unable = f"{type(error).__name__}: {error}"[:300]
            log.exception("served_not_scored")
        finally:
            scores.reference = None
            if self._scores is scores:
                self.text.close()
        scored = len(scores.samples)
        log.info("served_scored", sequences=scored, broken=scores.broken, unable=scores.unable)

    async def _score_aside(self, window: Window, scores: _Scores) -> None:
        await self._aside(lambda: self._score(window, scores), "score what was served")

    def _score(self, window: Window, scores: _Scores) -> None:
        hardware.step_back()
        level = scores.level
        store = scores.reference or self._reconfigurer.full_precision(level.precision)
        scores.reference = store
        try:
            full = look_up([window], lambda tokens: self._logits(tokens, Numerics(store, None)))
        except NotMeasurable:
            return  # where full precision says nothing, nothing is said of the settings
        try:
            seen = held_against(full, [window], lambda tokens: self._logits(tokens, self._reconfigurer.numerics(level)))
        except NotMeasurable:
            scores.broken += 1
            return
        scores.take(seen)

    def _logits(self, tokens: Window, numerics: Numerics) -> Tensor:
        return self._runner.logits_apart(
            tokens, numerics.store, numerics.pruner, every_token=True, kv_precision=numerics.kv
        )
