"""One engine with the thread that steps it and the commands that come to it: several of them serve a node together."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference_node.contract.messages import AckOutcome
from inference_node.engine.answer import Answer
from inference_node.engine.engine import Change, Engine
from inference_node.engine.errors import EngineStopped
from inference_node.engine.placement import Placement
from inference_node.engine.requests import TokenDelta
from inference_node.engine.serving import Applied

log = logging.getLogger(__name__)

# (callback, its arguments), run on the event loop.
Post = Callable[..., None]
# Takes deltas on the event loop.
Deliver = Callable[[list[TokenDelta]], None]


@dataclass(frozen=True, slots=True)
class _Cancel:
    request_id: str


@dataclass(frozen=True, slots=True)
class _Apply:
    change: Change
    forced: bool
    applied: asyncio.Future[Applied]


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


_Command = _Cancel | _Apply | _Stop


class Replica:
    """`start` once; `add`, `cancel`, `order` and `ring` from any thread.

    Work stealing: a replica that has room and nobody waiting takes requests that another's running step leaves waiting. It looks
    before each of its own steps, and when it is idle as soon as such a step begins (`ring`). A request is moved whole, before
    any of it was computed: it is in exactly one queue, but for the moment in which the thief's thread holds it.
    """

    def __init__(self, number: int, engine: Engine, placement: Placement) -> None:
        self.number = number
        self.engine = engine
        self.placement = placement
        self.is_bound = False
        self._others: tuple[Replica, ...] = ()
        self._inbox: deque[_Command] = deque()
        self._rung = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> int:
        """Requests that it has, running or waiting."""
        return self.engine.scheduler.num_running + self.engine.scheduler.num_waiting

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, others: Sequence["Replica"], post: Post, deliver: Deliver) -> None:
        """others: those that share work with this one."""
        self._others, self._post, self._deliver = tuple(others), post, deliver
        if others:
            self.engine.on_left_waiting = self._ring_the_idle
        name = f"engine-{self.number}" if others else "engine"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def add(self, answer: Answer) -> None:
        self.engine.add(answer)
        self.ring()
        if self.engine.num_left_waiting:
            self._ring_the_idle()

    def cancel(self, request_id: str) -> None:
        """Ends a request, if it is here by then."""
        self._send(_Cancel(request_id))

    def order(self, change: Change, forced: bool, applied: asyncio.Future[Applied]) -> None:
        """Settings that are ready, behind those that were ordered before."""
        self._send(_Apply(change, forced, applied))

    def stop(self) -> None:
        self._send(_Stop())

    def ring(self) -> None:
        """There may be something to do."""
        with self._wake:
            self._rung = True
            self._wake.notify()

    def _send(self, command: _Command) -> None:
        with self._wake:
            self._inbox.append(command)
            self._wake.notify()

    # On its thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.is_bound = self.placement.enter()
        engine = self.engine
        while True:
            with self._wake:
                while not (self._inbox or self._rung or engine.has_work):
                    self._wake.wait()
                commands, self._inbox, self._rung = self._inbox, deque(), False
            while commands:
                command = commands.popleft()
                if isinstance(command, _Stop):
                    self._finish(commands)
                    return
                self._handle(command)
            self._steal()
            if (delay := engine.gather_delay_s()) > 0:
                with self._wake:
                    if not (self._inbox or self._rung):
                        self._wake.wait(delay)
                continue
            self._step()

    def _steal(self) -> None:
        scheduler = self.engine.scheduler
        if not self._others or scheduler.num_waiting:
            return
        room = scheduler.batch_cap - scheduler.num_running
        victim = max(self._others, key=lambda other: other.engine.num_left_waiting)
        if room <= 0 or not (waiting := victim.engine.num_left_waiting):
            return
        # Half of them, so that a third replica, or the victim itself, finds some.
        count = min(room, -(-waiting // 2))
        blocks = self.engine.blocks
        if taken := victim.engine.give(count, blocks.num_available * blocks.block_size):
            self.engine.take_over(taken)

    def _ring_the_idle(self) -> None:
        for other in self._others:
            if not other.engine.has_work:
                other.ring()

    def _step(self) -> None:
        try:
            deltas = self.engine.step()
        except Exception as error:  # a bug of ours outside the model: nobody may hang for it
            log.exception("the engine failed between two steps")
            self.engine.failed_steps += 1
            self.engine.last_error = f"{type(error).__name__}: {error}"
            deltas = self.engine.fail_all()
        if deltas:
            self._post(self._deliver, deltas)

    def _handle(self, command: _Cancel | _Apply) -> None:
        match command:
            case _Cancel(request_id):
                if deltas := self.engine.cancel(request_id):
                    self._post(self._deliver, deltas)
            case _Apply(change, forced, applied):
                self._post(_resolve, applied, self._apply(change, forced))

    def _apply(self, change: Change, forced: bool) -> Applied | Exception:
        try:
            return Applied(self.engine.apply(change), change.settings, AckOutcome.APPLIED, forced)
        except Exception as error:
            log.exception("settings could not be applied")
            return error

    def _finish(self, commands: deque[_Command]) -> None:
        for command in commands:
            if isinstance(command, _Apply):
                stopped = EngineStopped("the engine was stopped before it applied these settings")
                self._post(_resolve, command.applied, stopped)
        self._post(self._deliver, self.engine.cancel_all())


def _resolve(future: asyncio.Future[Applied], outcome: Applied | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
