"""The node's side of the loop: registers, says every few seconds how it is, and asks for newer settings.

With the control plane gone the node keeps serving under its last settings, for ever; the agent goes on trying, quietly.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from inference_node.agent.controlplane_client import (
    ControlPlaneClient,
    ControlPlaneUnreachable,
    EnrolmentRefused,
    NotEnrolled,
)
from inference_node.agent.desired import PushRejected
from inference_node.agent.history import History
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import Credentials, NodeStore
from inference_node.contract.history import WINDOW_S, ChangedBy, NodeChange
from inference_node.contract.messages import Heartbeat, NodeRegistered, NodeRegistration, NodeState
from inference_node.contract.served import ServedQuality
from inference_node.contract.settings import EngineSettings
from inference_node.contract.signing import is_signed
from inference_node.engine.errors import EngineStopped
from inference_node.engine.serving import ServingEngine
from inference_node.readings import Readings, window_between

BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.5, 15.0
# The step-time table is refined slowly and is the largest part of a heartbeat.
PROFILE_EVERY = 6
REFUSED_PAUSE_S = 2.0

log = structlog.get_logger("agent")


class Link(StrEnum):
    """How the node stands with its control plane."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the agent needs to present the node. `describe` gives the registration as of now."""

    controlplane_url: str
    enrolment_token: str | None
    describe: Callable[[], NodeRegistration]
    state: Callable[[], NodeState]


class Agent:
    """One asyncio task's worth of work: `run()` until cancelled, then `farewell()`."""

    def __init__(
        self,
        enrolment: Enrolment,
        engine: ServingEngine,
        keeper: SettingsKeeper,
        store: NodeStore,
        *,
        readings: Callable[[], Readings] | None = None,
        backoff_cap_s: float = BACKOFF_CAP_S,
        window_s: float = WINDOW_S,
    ) -> None:
        """readings: the node's metrics as of now; without them no windows are written down while the control plane is away."""
        self.link = Link.CONNECTING
        self._enrolment, self._engine, self._keeper, self._store = enrolment, engine, keeper, store
        described = enrolment.describe()
        self._instance_id, self._admin_token = described.instance_id, described.admin_token
        self._client = ControlPlaneClient(enrolment.controlplane_url)
        self._credentials = store.load_credentials(enrolment.controlplane_url)
        keeper.instance_id = self._instance_id
        keeper.node_id = self._credentials.node_id if self._credentials else None
        self._heartbeat_s, self._long_poll_s, self._backoff_cap_s = 5.0, 25.0, backoff_cap_s
        self._readings, self._window_s = readings, window_s
        self._history = History(store.folder / "history.jsonl")
        keeper.on_applied = self._note_change
        self._beats = 0
        self._served_told: ServedQuality | None = None
        self._ask_now = asyncio.Event()

    async def run(self) -> None:
        """Never returns by itself, and no failure of the control plane ends it."""
        async with self._client, _cancelled_at_end(self._keep_history()):
            while True:
                await self._register()
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._keep_beating(), name="heartbeat")
                        group.create_task(self._keep_asking(), name="ask for settings")
                except* NotEnrolled:
                    log.info("enrolment_lost", node_id=self.node_id)
                    self._credentials = None
                except* (
                    Exception
                ) as errors:  # a bug of ours must cost the node neither its clients nor its control plane
                    log.error("agent_failed", exc_info=errors)
                    await asyncio.sleep(self._backoff_cap_s)

    @property
    def node_id(self) -> str | None:
        return self._credentials.node_id if self._credentials else None

    async def farewell(self) -> None:
        """A last heartbeat, so that the control plane sees at once that the node is draining. Failing does not matter."""
        if self._credentials is None:
            return
        async with ControlPlaneClient(self._enrolment.controlplane_url, timeout_s=2.0) as client:
            try:
                await client.heartbeat(self._credentials.node_id, self._credentials.token, self._heartbeat())
            except (ControlPlaneUnreachable, NotEnrolled):
                log.debug("farewell_not_heard")

    async def _register(self) -> None:
        """Until it is done. A refused enrolment is an error that a person must mend, told once; known credentials go on."""
        refused: str | None = None
        for pause in backoff(self._backoff_cap_s):
            try:
                registered = await self._join()
            except EnrolmentRefused as error:
                if self._credentials is not None:
                    log.warning("registration_refused", reason=str(error), goes_on_as=self._credentials.node_id)
                    return
                if str(error) != refused:
                    refused = str(error)
                    log.error("registration_refused", controlplane=self._enrolment.controlplane_url, reason=refused)
                self.link = Link.DOWN
            except ControlPlaneUnreachable as error:
                self._heard(False, str(error))
            else:
                self._credentials = Credentials(
                    controlplane_url=self._enrolment.controlplane_url,
                    node_id=registered.node_id,
                    token=registered.token,
                )
                self._keeper.node_id = registered.node_id
                self._heartbeat_s, self._long_poll_s = registered.heartbeat_interval_s, registered.long_poll_s
                await self._remember()
                self._heard(True)
                log.info("registered", node_id=registered.node_id, controlplane=self._enrolment.controlplane_url)
                return
            await asyncio.sleep(pause)

    async def _join(self) -> NodeRegistered:
        """By the token of its last life, as long as that holds: the enrolment token may be good for one node, once."""
        described, token = self._enrolment.describe(), self._enrolment.enrolment_token
        if self._credentials is not None:
            try:
                return await self._client.register(described, self._credentials.token)
            except EnrolmentRefused:
                if token is None:
                    raise
        if token is None:
            raise EnrolmentRefused("this node has no enrolment token: set NODE_ENROLMENT_TOKEN")
        return await self._client.register(described, token)

    async def _remember(self) -> None:
        assert self._credentials is not None
        try:
            await asyncio.to_thread(self._store.save_credentials, self._credentials)
        except OSError as error:
            log.error("credentials_not_saved", folder=str(self._store.folder), problem=str(error))

    async def _keep_beating(self) -> None:
        pauses = backoff(self._backoff_cap_s)
        while True:
            try:
                await self._beat()
            except ControlPlaneUnreachable as error:
                self._heard(False, str(error))
                await asyncio.sleep(next(pauses))
                continue
            self._heard(True)
            pauses = backoff(self._backoff_cap_s)
            try:
                await self._tell_history()
            except ControlPlaneUnreachable as error:
                log.warning("history_not_told", reason=str(error), waiting=len(self._history))
            await self._heartbeat_pause()

    async def _keep_asking(self) -> None:
        pauses, failing = backoff(self._backoff_cap_s), False
        while True:
            try:
                await self._ask()
            except ControlPlaneUnreachable as error:
                if not failing and self.link is Link.UP:
                    log.warning("desired_settings_unavailable", reason=str(error))
                failing = True
                await self._pause_unless_asked(next(pauses))
                continue
            pauses, failing = backoff(self._backoff_cap_s), False

    def _note_change(self, before: EngineSettings, after: EngineSettings, by: ChangedBy, generation: int) -> None:
        if self.link is not Link.UP and before != after:
            at, changes = datetime.now(UTC), before.changed(after)
            self._history.add_change(NodeChange(at=at, by=by, generation=generation, changes=changes))

    async def _keep_history(self) -> None:
        """A window of the node's metrics every `window_s`, kept when the control plane was away in it."""
        if self._readings is None:
            return
        before, whole = await asyncio.to_thread(self._readings), False
        while True:
            now = time.time()
            end = (now // self._window_s + 1) * self._window_s
            was_up = self.link is Link.UP
            await asyncio.sleep(end - now)
            after = await asyncio.to_thread(self._readings)
            # The first one is a part of a window only; a clock that was set makes what follows one, too.
            if whole and abs(time.time() - end) < self._window_s / 2 and not (was_up and self.link is Link.UP):
                at = datetime.fromtimestamp(end, UTC)
                self._history.add_window(window_between(before, after, at, self._window_s))
            before, whole = after, True

    async def _tell_history(self) -> None:
        """What was written down, part by part, right after a heartbeat was heard."""
        assert self._credentials is not None
        while (part := self._history.next_part()) is not None:
            await self._client.history(self._credentials.node_id, self._credentials.token, part)
            self._history.taken(part)
            log.info("history_told", windows=len(part.windows), changes=len(part.changes), left=len(self._history))

    async def _beat(self) -> None:
        assert self._credentials is not None
        beat = self._heartbeat()
        reply = await self._client.heartbeat(self._credentials.node_id, self._credentials.token, beat)
        self._beats += 1
        self._served_told = beat.served or self._served_told
        watch = reply.watch
        if watch is not None and watch.generation != self._keeper.observed.generation:
            watch = None  # its settings are not in force yet, or no longer
        self._engine.watch_served(watch)
        if reply.desired_generation > self._keeper.known_generation:
            self._ask_now.set()

    async def _ask(self) -> None:
        assert self._credentials is not None
        push = await self._client.desired(
            self._credentials.node_id, self._credentials.token, self._keeper.known_generation, self._long_poll_s
        )
        if push is None:
            return
        # Nothing is noted of one that is not ours: whoever made it up could else keep us from asking for the real one.
        if not is_signed(push, self._admin_token):
            raise ControlPlaneUnreachable(
                "settings that are not signed with this node's admin token, so they are not taken: the control plane is older "
                "than this node, or somebody else answers in its place"
            )
        try:
            await self._keeper.apply_push(push)
        except EngineStopped:
            await asyncio.sleep(REFUSED_PAUSE_S)  # draining: there is nothing to apply it to any more
        except PushRejected:
            # The keeper has logged it, and the heartbeat tells it. One that still counts as new would come again at once.
            if push.generation > self._keeper.known_generation:
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _heartbeat_pause(self) -> None:
        """Until the next beat is due, or something worth telling at once has happened."""
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await self._keeper.wait_changed()
        except TimeoutError:
            pass

    async def _pause_unless_asked(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ask_now.wait()
        except TimeoutError:
            pass
        self._ask_now.clear()

    def _heartbeat(self) -> Heartbeat:
        observed, preparing, rejected = self._keeper.observed, self._keeper.preparing, self._keeper.rejected
        settings, stats, served = self._engine.settings, self._engine.stats(), self._engine.served()
        return Heartbeat(
            instance_id=self._instance_id,
            state=self._enrolment.state(),
            observed_generation=observed.generation,
            observed_epoch=self._keeper.epoch_seen,  # what it fences by: a control plane that lost its memory must get above
            config_hash=settings.content_hash(),
            settings=settings,
            applied_step=observed.applied_step,
            preparing_generation=preparing.generation if preparing else None,
            rejected_generation=rejected.generation if rejected else None,
            rejected_reason=rejected.reason if rejected else None,
            drifted=observed.drifted,
            edited=observed.drifted and self._keeper.edited,
            lapsed=observed.lapsed,
            running=stats.running,
            waiting=stats.waiting,
            kv_usage=stats.kv_usage,
            step=stats.step,
            step_profile=self._engine.step_profile() if self._beats % PROFILE_EVERY == 0 else None,
            quality=self._engine.quality() if self._beats % PROFILE_EVERY == 0 else None,
            served=served if served != self._served_told else None,
        )

    def _heard(self, up: bool, reason: str = "") -> None:
        """One log line per change of the link, not per try."""
        link = Link.UP if up else Link.DOWN
        if link is self.link:
            return
        if link is Link.DOWN:
            log.warning(
                "controlplane_unreachable",
                controlplane=self._enrolment.controlplane_url,
                reason=reason,
                keeps_serving="with the last settings",
            )
        elif self.link is Link.DOWN:
            log.info("controlplane_reachable_again", controlplane=self._enrolment.controlplane_url)
        self.link = link


def backoff(cap_s: float) -> Iterator[float]:
    """Endless pauses in seconds: doubling up to cap_s, each shortened at random by up to half, so that nodes fall out of step."""
    pause = BACKOFF_FIRST_S
    while True:
        yield min(pause, cap_s) * random.uniform(0.5, 1.0)
        pause = min(2 * pause, cap_s)


@asynccontextmanager
async def _cancelled_at_end(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` beside what is done inside; a failure of it is logged and costs nothing else."""
    task = asyncio.create_task(work, name="history")
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("history_failed", exc_info=error)
