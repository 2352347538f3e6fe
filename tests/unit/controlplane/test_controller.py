import time

import pytest
from sqlalchemy import Engine

from controlplane.clock import SystemClock
from controlplane.controller import STUCK_S, Controller
from controlplane.settings import ControlPlaneSettings


class _Alive:
    """A thread or a keeper of the lease that is as it should be."""

    name = "tick"

    def __init__(self, alive: bool = True) -> None:
        self._alive = alive

    def is_alive(self) -> bool:
        return self._alive


def controller(engine: Engine, *, tick_s: float = 15.0) -> Controller:
    found = Controller(ControlPlaneSettings(tick_s=tick_s), engine, SystemClock())
    found._threads = [_Alive()]  # type: ignore[list-item]
    found.leadership._thread = _Alive()  # type: ignore[assignment]
    return found


class TestCheck:
    def test_a_pause_as_long_as_was_asked_for_is_no_hang(self, engine: Engine) -> None:
        found = controller(engine, tick_s=600)
        found._round_at["tick"] = time.monotonic() - 600
        found.check()

    def test_a_loop_that_makes_no_headway_is_told(self, engine: Engine) -> None:
        found = controller(engine)
        found._round_at["tick"] = time.monotonic() - STUCK_S - 16
        with pytest.raises(RuntimeError, match="tick has not come round"):
            found.check()

    def test_nobody_who_asks_for_the_lease_is_told(self, engine: Engine) -> None:
        found = controller(engine)
        found.leadership._thread = _Alive(alive=False)  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="lease"):
            found.check()
