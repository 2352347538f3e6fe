import os
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from celery import Celery
from sqlalchemy import Engine

from controlplane.clock import SystemClock
from controlplane.db import session_scope
from controlplane.events import service as events
from controlplane.settings import ControlPlaneSettings
from tests.support.database import memory_database
from workers import relay as relay_module
from workers.context import WorkerContext
from workers.relay import Relay

BEGUN = datetime(2026, 11, 2, 12, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Sent:
    """Stands for the Celery application: raises `troubles`, then keeps what it is to send; a push ends the relay."""

    def __init__(self) -> None:
        self.pushes: list[int] = []
        self.troubles: list[Exception] = []
        self.relay: Relay | None = None

    def send_task(self, name: str, *, args: tuple[list[int], ...], **_: object) -> None:
        if self.troubles:
            raise self.troubles.pop()
        if name == "trimtab.push":
            self.pushes += args[0]
            assert self.relay is not None
            self.relay.stop()


def relay_on(engine: Engine) -> tuple[Relay, Sent]:
    context = WorkerContext(ControlPlaneSettings(), name="worker@test", clock=SystemClock())
    context._engines[os.getpid()] = engine
    app = Sent()
    app.relay = Relay(cast(Celery, app), context, on_stall=lambda: None)
    return app.relay, app


def owe(engine: Engine, kind: str) -> int:
    with session_scope(engine) as session:
        return events.owe(session, kind=kind, key=f"{kind}:1", payload={}, at=LONG_AGO).id


class Time:
    """A clock that only the relay's own waits move on; when `waits` are used up the relay ends."""

    def __init__(self, waits: list[float]) -> None:
        self.passed_s, self.waits = 0.0, waits

    def now(self) -> datetime:
        return BEGUN + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    def wait(self, _: float) -> bool:
        if not self.waits:
            return True
        self.passed_s += self.waits.pop(0)
        return False

    def set(self) -> None:
        self.waits.clear()


def stalls(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> bool:
    """Whether a relay that waits so long each time, and none of whose tasks is ever run, ends its worker."""
    passing, found = Time(waits), []
    with memory_database() as engine:
        context = WorkerContext(ControlPlaneSettings(), name="worker@test", clock=passing)
        context._engines[os.getpid()] = engine
        relay = Relay(cast(Celery, Sent()), context, on_stall=lambda: found.append(True), monotonic=passing.monotonic)
        monkeypatch.setattr(relay, "_ended", passing)
        relay.run()
    return bool(found)


def test_a_worker_whose_tasks_are_never_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stalls(monkeypatch, [1.0] * 70)


def test_one_that_was_stopped_for_minutes_gets_time_to_show_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not stalls(monkeypatch, [0.25, 130.0] + [1.0] * 50)
    assert stalls(monkeypatch, [0.25, 130.0] + [1.0] * 70)


class TestRelay:
    def test_outlives_whatever_a_round_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relay_module, "POLL_S", 0.001)
        with memory_database() as engine:
            relay, app = relay_on(engine)
            item_id = owe(engine, "push")
            app.troubles = [OSError("no buffer space"), RuntimeError("a bug")]
            relay.run()
        assert app.pushes == [item_id]

    def test_a_debt_of_an_unknown_kind_holds_up_no_other(self) -> None:
        with memory_database() as engine:
            relay, app = relay_on(engine)
            owe(engine, "of newer code")
            item_id = owe(engine, "push")
            relay._publish()
        assert app.pushes == [item_id]
