"""Engine.step: schedule, run, hand out tokens. Synchronous and on one thread; `replica` gives it that thread."""

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inference_node.contract.settings import EngineSettings, KnobBounds
from inference_node.contract.step_profile import StepShape
from inference_node.engine.answer import Answer, StepStamp
from inference_node.engine.listener import EngineListener, RequestRecord, StepRecord
from inference_node.engine.requests import FinishReason, TokenDelta
from inference_node.engine.step_counter import StepCounter
from inference_node.engine.step_model import StepModel, shape_of
from inference_node.engine.work import NO_WORK, WorkModel
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.quality.served import ServedText
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.block_manager import BlockManager
from inference_node.scheduling.scheduler import Scheduler
from inference_node.scheduling.sequence import Sequence

# Weight of the newest request in the smoothed time that one is served for, which Retry-After is made of.
_SERVICE_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """Settings to bring into force, with the arithmetic they ask for already in memory."""

    settings: EngineSettings
    numerics: Numerics
    bounds: KnobBounds | None


class Engine:
    """Requests of one model, all of them or a replica's. Methods are for the one thread that steps, but for `add` and `give`,
    which any may call; counters may be read from any."""

    def __init__(
        self,
        runner: ModelRunner,
        settings: EngineSettings,
        listener: EngineListener,
        times: StepModel,
        clock: Callable[[], float] = time.monotonic,
        work: WorkModel | None = None,
        steps: StepCounter | None = None,
        replica: int = 0,
    ) -> None:
        """steps: shared by the replicas of a node; by default the engine's own. replica: its number, for records."""
        self.runner = runner
        self.blocks = BlockManager(runner.kv.num_blocks, runner.kv.block_size)
        self.scheduler = Scheduler(self.blocks, settings, settings.numerics_key(), times)
        self.scheduler.tokens_ahead = runner.tokens_ahead
        self.settings = settings
        self.step_number = 0
        self.num_steps = 0
        self.num_taken_over = 0
        self.failed_steps = 0
        self.last_error: str | None = None
        self.service_s = 1.0
        # Hears of each answer that is complete.
        self.served: ServedText | None = None
        self._answers: dict[str, Answer] = {}
        self._listener = listener
        self._times = times
        times.use(settings)
        self._clock = clock
        self._work = work
        self._steps = steps or StepCounter()
        self._replica = replica
        # Held while the queue changes: others put requests into it, and take them out.
        self._queue = threading.Lock()
        self._is_stepping = False
        # Called when a step begins that leaves requests waiting.
        self.on_left_waiting: Callable[[], None] = lambda: None

    @property
    def has_work(self) -> bool:
        return bool(self._answers)

    @property
    def num_left_waiting(self) -> int:
        """Requests that the step in progress does not take along; 0 between two steps."""
        return self.scheduler.num_waiting if self._is_stepping else 0

    def gather_delay_s(self) -> float:
        """How long to wait for more requests before the next step."""
        with self._queue:
            return self.scheduler.gather_delay_s(self._clock())

    def add(self, answer: Answer) -> None:
        with self._queue:
            self._answers[answer.request.request_id] = answer
            self.scheduler.add(answer.sequence)

    def give(self, count: int, most_tokens: int) -> list[Answer]:
        """Up to `count` requests, of `most_tokens` together, that wait while a step runs and have not begun. They are the
        caller's from now on."""
        with self._queue:
            if not self._is_stepping:
                return []  # the next step is about to take them

            def may_go(sequence: Sequence) -> bool:
                return not self._answers[sequence.request_id].is_cancelled

            given = self.scheduler.give(count, most_tokens, self._clock(), may_go)
            return [self._answers.pop(sequence.request_id) for sequence in given]

    def take_over(self, answers: list[Answer]) -> None:
        """What another engine gave."""
        with self._queue:
            for answer in answers:
                self._answers[answer.request.request_id] = answer
                self.scheduler.adopt(answer.sequence)
        self.num_taken_over += len(answers)

    def cancel(self, request_id: str) -> list[TokenDelta]:
        """Ends a request; its last delta, or nothing when it has already ended."""
        with self._queue:
            answer = self._answers.pop(request_id, None)
            if answer is None:
                return []
            self.scheduler.finish(answer.sequence, FinishReason.CANCELLED)
        return [self._close(answer.end(FinishReason.CANCELLED, self._stamp()), answer)]

    def fail_all(self) -> list[TokenDelta]:
        """Ends every request with an error, after `last_error` was set."""
        with self._queue:
            failed = list(self._answers.values())
        return [self._end_in_error(answer, self._stamp()) for answer in failed]

    def cancel_all(self) -> list[TokenDelta]:
        with self._queue:
            left = list(self._answers)
        return [delta for request_id in left for delta in self.cancel(request_id)]

    def apply(self, change: Change) -> int:
        """Brings settings into force. Returns the number of the first step that will run under them."""
        before, self.settings = self.settings, change.settings
        # Nobody who adds a request waits for this: it may convert all that is cached.
        changed_form = self.runner.switch(change.numerics, self.blocks.used_blocks())
        with self._queue:
            if changed_form:
                # What is cached was kept in the other format only for running sequences, and rounding may have changed it.
                self.blocks.forget_cached()
            self.scheduler.apply(change.settings, change.settings.numerics_key(), change.bounds)
        self._times.use(change.settings)
        step = self._steps.latest + 1
        self._listener.on_settings_applied(change.settings, step, tuple(before.changed(change.settings)))
        return step

    def step(self) -> list[TokenDelta]:
        """One step. Deltas for the requests that moved; empty when there is nothing to do. Does not raise for a failed step."""
        started = self._clock()
        with self._queue:
            batch = self.scheduler.schedule(started)
            self._is_stepping = bool(batch.rows)
        if not batch.rows:
            return []
        try:
            return self._run(batch, started)
        finally:
            self._is_stepping = False

    def _run(self, batch: ScheduledBatch, started: float) -> list[TokenDelta]:
        self.step_number = self._steps.next()
        self.num_steps += 1
        if self.scheduler.num_waiting:
            self.on_left_waiting()
        try:
            seeds = [self._answers[row.sequence.request_id].seed for row in batch.rows]
            tokens = self.runner.run(batch, seeds)
        except Exception as error:  # noqa: BLE001 - whatever broke, only this batch pays for it
            return self._fail(batch, error)
        with self._queue:
            self.scheduler.complete(batch)
        stamp = self._stamp()
        first: list[float] = []
        between: list[float] = []
        deltas: list[TokenDelta] = []
        for sequence, token in tokens:
            if sequence.last_token_s is None:
                first.append(stamp.ended_s - sequence.arrived_s)
            else:
                between.append(stamp.ended_s - sequence.last_token_s)
            answer = self._answers[sequence.request_id]
            delta = answer.take(token, stamp)
            if delta.finish_reason is not None:
                self._finish(answer, delta.finish_reason)
                self._close(delta, answer)
            deltas.append(delta)
        duration = stamp.ended_s - started
        self.scheduler.observe(batch, duration, statistics.median(between) if between else None)
        shape = shape_of(batch)
        self._times.observe(shape, duration, self.scheduler.numerics)
        self._report(batch, shape, started, duration, len(tokens), first, between)
        return deltas

    def _fail(self, batch: ScheduledBatch, error: Exception) -> list[TokenDelta]:
        self.failed_steps += 1
        self.last_error = f"step {self.step_number}: {type(error).__name__}: {error}"
        stamp = self._stamp()
        failed = [self._answers[row.sequence.request_id] for row in batch.rows]
        return [self._end_in_error(answer, stamp) for answer in failed]

    def _end_in_error(self, answer: Answer, stamp: StepStamp) -> TokenDelta:
        self._finish(answer, FinishReason.ERROR)
        return self._close(answer.end(FinishReason.ERROR, stamp, error=self.last_error), answer)

    def _finish(self, answer: Answer, reason: FinishReason) -> None:
        with self._queue:
            del self._answers[answer.request.request_id]
            self.scheduler.finish(answer.sequence, reason)

    def _close(self, delta: TokenDelta, answer: Answer) -> TokenDelta:
        assert delta.timing is not None and delta.finish_reason is not None
        if self.served is not None and delta.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            is_cut = delta.finish_reason is FinishReason.LENGTH
            self.served.finished(answer.sequence.tokens, delta.num_generated_tokens, cut=is_cut)
        if delta.timing.first_scheduled_s is not None:
            served = delta.timing.finished_s - delta.timing.first_scheduled_s
            self.service_s += _SERVICE_SMOOTHING * (served - self.service_s)
        self._listener.on_request_finished(
            RequestRecord(
                request_id=delta.request_id,
                finish_reason=delta.finish_reason,
                timing=delta.timing,
                num_prompt_tokens=delta.num_prompt_tokens,
                num_cached_tokens=delta.num_cached_tokens,
                num_generated_tokens=delta.num_generated_tokens,
                num_preemptions=answer.sequence.num_preemptions,
                error="step_failed" if delta.finish_reason is FinishReason.ERROR else None,
            )
        )
        return delta

    def _report(
        self,
        batch: ScheduledBatch,
        shape: StepShape,
        started: float,
        duration: float,
        generated: int,
        first: list[float],
        between: list[float],
    ) -> None:
        if first or between:
            self._listener.on_token_times(first, between)
        work = NO_WORK
        if self._work is not None:
            work = self._work.of_step(shape, self.settings.precision, self.runner.kv.dtype.itemsize)
        self._listener.on_step(
            StepRecord(
                step=self.step_number,
                started_s=started,
                duration_s=duration,
                precision=self.settings.precision,
                decode_rows=batch.num_decode_rows,
                prefill_tokens=batch.num_prefill_tokens,
                prefill_rows=len(batch.rows) - batch.num_decode_rows,
                generated_tokens=generated,
                preemptions=len(batch.preempted),
                prefix_queries=batch.prefix_queries,
                prefix_hits=batch.prefix_hits,
                running=self.scheduler.num_running,
                waiting=self.scheduler.num_waiting,
                blocks_used=self.blocks.num_used,
                blocks_total=self.blocks.num_blocks,
                batch_cap=self.scheduler.batch_cap,
                pruned_ratio=self.runner.pruned_ratio,
                work_bytes=work.bytes,
                work_flops=work.flops,
                replica=self._replica,
            )
        )

    def _stamp(self) -> StepStamp:
        return StepStamp(self.step_number, self._clock(), self.scheduler.numerics)
