"""Brings settings into force, whoever asks: a push, the agent's long poll, or an operator at the node.

All ways in go through one `SettingsKeeper`. It decides under one lock and waits outside it, so that a newer wish can overtake
one that is still being prepared.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from pydantic import ValidationError

from inference_node.agent.desired import (
    Lease,
    Observed,
    Preparing,
    PushRejected,
    Verdict,
    check_offered,
    judge,
    rejection_of,
)
from inference_node.agent.store import NodeStore, StoredSettings
from inference_node.contract.history import ChangedBy
from inference_node.contract.messages import LAPSED, AckOutcome, RejectCode, SettingsAck, SettingsPush
from inference_node.contract.settings import EngineSettings, KnobBounds, KnobValue
from inference_node.engine.errors import EngineStopped, SettingsRefused, Superseded
from inference_node.engine.serving import Applied, ServingEngine
from inference_node.errors import NodeError

# A change that takes longer is answered with `preparing`; live knobs take one step, which is far below.
PREPARING_AFTER_S = 1.0

# The way back from an experiment is tried without end: nobody else may be there to do it.
LAPSE_AGAIN_S = 15.0
# Refusals of what was asked for. The others tell that the asker is out of date, so its generation must not count as known.
_FINAL = {
    RejectCode.OUT_OF_BOUNDS,
    RejectCode.NOT_SUPPORTED,
    RejectCode.OUT_OF_MEMORY,
    RejectCode.QUALITY,
    RejectCode.INVALID,
}

log = structlog.get_logger("agent.keeper")


@dataclass(frozen=True, slots=True)
class Rejection:
    """The last push that was refused, as the heartbeat tells it."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Change:
    settings: EngineSettings
    bounds: Mapping[str, KnobBounds]
    force: bool
    push: SettingsPush | None  # None: an operator's edit at the node, or a lease that has ended
    lapse: bool = False


@dataclass(slots=True)
class _Underway:
    change: _Change
    task: asyncio.Task[Applied] = field(repr=False)


class SettingsKeeper:
    """The node's settings over time. Belongs to the event loop of the engine."""

    def __init__(
        self,
        engine: ServingEngine,
        store: NodeStore,
        stored: StoredSettings | None = None,
        *,
        preparing_after_s: float = PREPARING_AFTER_S,
        count: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """count hears the outcome of each push and edit: an AckOutcome's or a RejectCode's word."""
        self.node_id: str | None = None
        self.instance_id: str | None = None
        self.rejected: Rejection | None = None
        # Hears (before, after, by whom, generation) of settings that came into force.
        self.on_applied: Callable[[EngineSettings, EngineSettings, ChangedBy, int], None] = lambda *_: None
        # Why the last edit was refused after all, when its answer had been that it is being prepared.
        self.edit_refused: str | None = None
        # Whether an operator's edit is in force. Not kept: what a restart made of it was nobody's wish.
        self.edited = False
        self._engine, self._store, self._count = engine, store, count
        self._preparing_after_s = preparing_after_s
        self._desired = stored.desired if stored else None
        self._resumed_generation: int | None = None
        self._epoch_seen = stored.epoch_seen if stored else 0
        known = stored.observed() if stored else Observed(settings=engine.settings)
        # A node that could not start with what it had stored runs on something else, and says so.
        drifted = known.drifted or known.settings != engine.settings
        self._observed = replace(known, settings=engine.settings, drifted=drifted and known.generation > 0)
        self._underway: _Underway | None = None
        self._lease_ends: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def observed(self) -> Observed:
        return self._observed

    @property
    def epoch_seen(self) -> int:
        return self._epoch_seen

    @property
    def preparing(self) -> Preparing | None:
        """The generation on its way; None when nothing is, or when an operator's edit is."""
        push = self._underway.change.push if self._underway else None
        return Preparing(push.generation, push.config_hash) if push else None

    @property
    def known_generation(self) -> int:
        """The newest generation that this node has decided on; the agent asks for newer ones only."""
        return max(
            self._observed.generation,
            self.preparing.generation if self.preparing else 0,
            self.rejected.generation if self.rejected else 0,
        )

    def note_rejection(self, generation: int, rejection: PushRejected) -> None:
        """Remember that a generation was refused, for the heartbeat to tell."""
        self.rejected = Rejection(generation, f"{rejection.code.value}: {rejection}")
        self._changed.set()

    async def wait_changed(self) -> None:
        """Returns when settings came into force or were refused; what happened since the last call counts."""
        await self._changed.wait()
        self._changed.clear()

    async def apply_push(self, push: SettingsPush) -> SettingsAck:
        """Bring a push into force, or say that it is being prepared. Raises PushRejected, EngineStopped: nothing was changed.

        Safe to call twice and at once with the same push: both get the same answer and it is applied once.
        """
        asked_step = self._engine.stats().step
        try:
            async with self._lock:
                underway = await self._begin(push)
            outcome, forced = (AckOutcome.UNCHANGED, False) if underway is None else await self._outcome(underway)
        except PushRejected as rejection:
            self._count(rejection.code.value)
            if rejection.code in _FINAL and push.generation > self.known_generation:
                self.note_rejection(push.generation, rejection)
            log.warning("push_rejected", generation=push.generation, code=rejection.code.value, reason=str(rejection))
            raise
        self._count(outcome.value)
        return self._acknowledge(outcome, push, asked_step, forced)

    async def edit(self, changes: Mapping[str, KnobValue], *, force: bool = False) -> SettingsAck:
        """An operator's change of some knobs at the node itself; from then on the node is drifted. Raises PushRejected.

        force: the quality guard shall let it pass.
        """
        asked_step = self._engine.stats().step
        try:
            async with self._lock:
                # Upon what is on its way, if something is: two edits in a row shall both come true.
                base = self._underway.change.settings if self._underway else self._engine.settings
                try:
                    settings = base.replace(**changes)
                except ValidationError as error:
                    raise rejection_of(error.errors()) from None
                check_offered(settings, self._engine.capabilities)
                self.edit_refused = None
                underway = self._start(_Change(settings, self._observed.bounds, force, None))
            outcome, forced = await self._outcome(underway)
        except PushRejected as rejection:
            self._count(rejection.code.value)
            raise
        self._count(outcome.value)
        return self._acknowledge(outcome, None, asked_step, forced)

    async def resume(self) -> None:
        """Take up a change that a restart has cut off, once: if it was what stopped the node, a second try would too."""
        desired = self._desired
        if desired is None or desired.generation <= self._observed.generation:
            return
        stored = await asyncio.to_thread(self._store.load_settings)
        if stored is None or stored.desired_retried or desired.lease_s is not None:
            return  # an experiment that was cut off is not tried again by the node itself
        self._resumed_generation = desired.generation
        await self._remember(self._observed)
        log.info("change_resumed", generation=desired.generation)
        try:
            await self.apply_push(desired)
        except PushRejected as rejection:
            log.warning("resumed_change_rejected", generation=desired.generation, reason=str(rejection))

    async def _begin(self, push: SettingsPush) -> _Underway | None:
        """Judge and start, under the lock. None when it is in force already."""
        verdict = judge(
            push,
            self._observed,
            self.preparing,
            epoch_seen=self._epoch_seen,
            capabilities=self._engine.capabilities,
            node_id=self.node_id,
        )
        newer_epoch = push.epoch > self._epoch_seen
        self._epoch_seen = max(self._epoch_seen, push.epoch)
        match verdict:
            case Verdict.PREPARING:
                return self._underway
            case Verdict.UNCHANGED:
                if newer_epoch:
                    await self._remember(replace(self._observed, epoch=push.epoch))
                return None
            case Verdict.APPLY:
                self._desired = push
                await self._remember(self._observed)
                return self._start(_Change(push.settings, push.bounds, push.force, push))

    def _start(self, change: _Change) -> _Underway:
        underway = _Underway(change, asyncio.create_task(self._carry_out(change), name="apply settings"))
        # Whoever waited may be gone when it fails, and asyncio complains of errors that nobody fetched.
        underway.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._underway = underway
        return underway

    async def _carry_out(self, change: _Change) -> Applied:
        push, before = change.push, self._engine.settings
        try:
            applied = await self._engine.apply(change.settings, bounds=change.bounds, force=change.force)
        except EngineStopped:
            self._forget(change)  # nothing was decided about it: whoever asked may ask again after the restart
            raise
        except Exception as error:
            if not isinstance(error, NodeError):
                log.error("settings_crashed", problem=f"{type(error).__name__}: {error}", exc_info=error)
            rejection = _rejection(error)
            async with self._lock:
                self._forget(change)
                # What was only overtaken was not refused: the agent asks again for whatever is desired by then.
                overtaken = isinstance(error, Superseded)
                if push is not None and push.generation >= self._observed.generation and not overtaken:
                    self.note_rejection(push.generation, rejection)
                elif push is None and not change.lapse and not overtaken:
                    self.edit_refused = f"{rejection.code.value}: {rejection}"
                    log.warning("edit_refused", code=rejection.code.value, reason=str(rejection))
            raise rejection from error
        async with self._lock:
            self.edited = push is None and not change.lapse
            # On disk first: what was reported once must not be forgotten by a crash.
            if change.lapse:
                await self._remember(self._observed.after_lease(applied.settings, applied.step))
            elif push is None:
                drifted = self._observed.generation > 0
                await self._remember(
                    replace(self._observed, settings=applied.settings, applied_step=applied.step, drifted=drifted)
                )
            elif push.generation >= self._observed.generation:
                await self._remember(Observed.of_push(push, applied.step))
                self.rejected = None
                self._watch_lease()
            self._forget(change)
        by = ChangedBy.PUSH if push else ChangedBy.LEASE if change.lapse else ChangedBy.OPERATOR
        self.on_applied(before, applied.settings, by, self._observed.generation)
        self._changed.set()
        log.info(
            "settings_applied",
            generation=self._observed.generation,
            step=applied.step,
            by=by.value,
            outcome=applied.outcome.value,
            forced=applied.forced,
        )
        return applied

    def _watch_lease(self) -> None:
        """The lease of what came into force just now, if it has one, in place of the one before it."""
        if self._lease_ends is not None:
            self._lease_ends.cancel()
            self._lease_ends = None
        lease = self._observed.lease
        if lease is not None:
            self._lease_ends = asyncio.create_task(self._end_lease(lease), name="lease")

    async def _end_lease(self, lease: Lease) -> None:
        """Waits, and goes back. Whatever is newer ends it before: then this task is cancelled."""
        await asyncio.sleep(lease.seconds)
        for pause_s in itertools.chain((0.5, 1.0, 2.0), itertools.repeat(LAPSE_AGAIN_S)):
            async with self._lock:
                # What is on its way is newer than the experiment, unless an operator edits that: then that goes, too.
                underway = self._underway
                if underway is None or underway.change.push is None:
                    underway = self._start(_Change(lease.fallback, {}, True, None, lapse=True))
            # Should a newer wish overtake us it cancels this task when it is in force, and not the change itself.
            await asyncio.wait({underway.task})
            if underway.change.lapse and underway.task.exception() is None:
                self._count(LAPSED)
                return
            if underway.change.lapse:
                log.error("lease_not_ended", tries_again_s=pause_s, problem=str(underway.task.exception()))
            await asyncio.sleep(pause_s)

    def _forget(self, change: _Change) -> None:
        if self._underway is not None and self._underway.change is change:
            self._underway = None

    async def _outcome(self, underway: _Underway) -> tuple[AckOutcome, bool]:
        """Also whether the quality guard had to be overridden, as far as that is known yet."""
        done, _ = await asyncio.wait({underway.task}, timeout=self._preparing_after_s)
        if not done:
            return AckOutcome.PREPARING, False
        applied = underway.task.result()
        return applied.outcome, applied.forced

    def _acknowledge(
        self, outcome: AckOutcome, push: SettingsPush | None, asked_step: int, forced: bool
    ) -> SettingsAck:
        settings = self._engine.settings
        return SettingsAck(
            generation=push.generation if push else self._observed.generation,
            epoch=push.epoch if push else self._observed.epoch,
            outcome=outcome,
            applied_step=None if outcome is AckOutcome.PREPARING else self._observed.applied_step,
            asked_step=asked_step,
            forced=forced,
            instance_id=self.instance_id,
            config_hash=settings.content_hash(),
            settings=settings,
        )

    async def _remember(self, observed: Observed) -> None:
        """`observed` is what holds from now on; written first, then told."""
        state = StoredSettings(
            settings=observed.settings,
            generation=observed.generation,
            epoch=observed.epoch,
            epoch_seen=self._epoch_seen,
            revision=observed.revision,
            config_hash=observed.config_hash,
            bounds=observed.bounds,
            drifted=observed.drifted,
            lapsed=observed.lapsed,
            fallback=None if observed.lease is None else observed.lease.fallback,
            desired=self._desired,
            desired_retried=self._desired is not None and self._desired.generation == self._resumed_generation,
        )
        try:
            await asyncio.to_thread(self._store.save_settings, state)
        except OSError as error:
            # A full disk must not stop tuning: what is in force is in memory, and a restart asks the control plane anew.
            log.error("settings_not_saved", folder=str(self._store.folder), problem=str(error))
        self._observed = observed


def _rejection(error: Exception) -> PushRejected:
    match error:
        case SettingsRefused():
            return PushRejected(error.code, error.message, error.knob)
        case Superseded():
            return PushRejected(RejectCode.STALE_GENERATION, "a newer change overtook this one while it was prepared")
        case NodeError():
            return PushRejected(RejectCode.CONFLICT, str(error))
        case _:
            return PushRejected(
                RejectCode.CONFLICT, "the engine could not apply these settings; the node's log says why"
            )
