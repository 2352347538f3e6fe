"""A child is started again when it dies, given up on when it keeps dying, and ended with its whole group."""

import asyncio
import io
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from trimtab.supervisor import children
from trimtab.supervisor.children import Child, ComponentFailed, Spawned, Spec
from trimtab.supervisor.report import Reporter


async def at_once(_: Spawned) -> bool:
    return True


async def never(_: Spawned) -> bool:
    return False


def make_child(folder: Path, code: str, *, probe: children.Probe = at_once, ready_s: float = 5.0) -> Child:
    spec = Spec("part", (sys.executable, "-S", "-c", code), dict(os.environ), probe, ready_timeout_s=ready_s)
    return Child(spec, folder / "part.log", Reporter(True, io.StringIO(), io.StringIO()), lambda: None)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACKOFF_FIRST_S", 0.01)


class TestRun:
    async def test_a_dead_child_is_started_again(self, tmp_path: Path) -> None:
        child = make_child(tmp_path, "import time; time.sleep(60)")
        watch = asyncio.create_task(child.run())
        await child.ready()
        first = child.pid
        assert first is not None
        os.kill(first, 9)
        while child.pid in (None, first):
            await asyncio.sleep(0.01)
        assert child.restarts == 1
        await child.stop()
        await watch
        assert child.pid is None

    async def test_gives_up_on_one_that_keeps_dying_and_quotes_its_log(self, tmp_path: Path) -> None:
        child = make_child(tmp_path, "import sys; sys.exit('no such thing')", probe=never)
        with pytest.raises(ComponentFailed, match=r"(?s)died 5 times, .*exit code 1.*no such thing"):
            await child.run()

    async def test_bad_input_at_the_first_start_is_not_tried_again(self, tmp_path: Path) -> None:
        child = make_child(tmp_path, "import sys; print('wrong model'); sys.exit(2)", probe=never)
        with pytest.raises(ComponentFailed, match=r"(?s)part cannot start.*wrong model"):
            await child.run()
        assert child.restarts == 0

    async def test_says_when_it_does_not_become_ready(self, tmp_path: Path) -> None:
        child = make_child(tmp_path, "import time; time.sleep(60)", probe=never, ready_s=0.1)
        watch = asyncio.create_task(child.run())
        with pytest.raises(ComponentFailed, match=r"not ready within 0.1 s"):
            await child.ready()
        await child.stop()
        await watch


class TestStop:
    async def test_ends_its_children_too(self, tmp_path: Path) -> None:
        code = (
            "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
            "print(p.pid, flush=True); time.sleep(60)"
        )
        child = make_child(tmp_path, code)
        watch = asyncio.create_task(child.run())
        while not (child.log.exists() and child.log.read_text().strip()):
            await asyncio.sleep(0.01)
        grandchild = psutil.Process(int(child.log.read_text()))
        await child.stop()
        await watch
        deadline = time.monotonic() + 5
        # Whoever inherits it may not have asked for its exit status yet.
        while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def test_kills_one_that_does_not_end(self, tmp_path: Path) -> None:
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
        child = make_child(tmp_path, code)
        watch = asyncio.create_task(child.run())
        while not (child.log.exists() and child.log.read_text().strip()):
            await asyncio.sleep(0.01)
        await child.stop(at_once=True)
        await watch
        assert child.pid is None


class TestRotate:
    def test_small_logs_stay(self, tmp_path: Path) -> None:
        log = tmp_path / "x.log"
        log.write_text("short")
        children.rotate(log)
        assert log.read_text() == "short"

    def test_large_ones_move_on_and_the_oldest_goes(self, tmp_path: Path) -> None:
        log = tmp_path / "x.log"
        for content in ("one", "two", "three", "four"):
            log.write_text(content)
            children.rotate(log, limit_bytes=1, kept=2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.log.1", "x.log.2"]
        assert (tmp_path / "x.log.1").read_text() == "four"
        assert (tmp_path / "x.log.2").read_text() == "three"


class TestDescribeExit:
    def test_names_codes_and_signals(self) -> None:
        assert children.describe_exit(1) == "exit code 1"
        assert children.describe_exit(-9) == "SIGKILL"
