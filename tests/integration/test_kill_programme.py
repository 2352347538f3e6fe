"""kill -9 of any part at a random time, again and again, and leaders that are paused: nothing lost, doubled or left undone.

`TRIMTAB_KILLS` says how many kills (45, which are part of `make test`; `make test-all` asks for the whole programme, 360),
`TRIMTAB_PAUSES` how many pauses (30).
"""

import os
import sys
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.support.kill_programme import KINDS, kill_programme

pytestmark = [pytest.mark.prometheus, pytest.mark.postgres]

KILLS = int(os.environ.get("TRIMTAB_KILLS", "45"))
PAUSES = int(os.environ.get("TRIMTAB_PAUSES", "30"))
RECOVERY_P95_S = 15.0  # the promise, of a machine that does nothing else (`make test-kills`)
# Beside other tests most of a recovery is that a new process waits for a processor to import its modules on: 34 s have been
# seen. What is asserted there only tells a recovery from none; the figure is printed.
SHARED_P95_S = 60.0


def most_p95_s() -> float:
    is_alone = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) == 1
    return RECOVERY_P95_S if is_alone else SHARED_P95_S


@pytest.mark.timeout(KILLS * 60 + 300)
def test_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kill_programme(tmp_path, seed=KILLS) as programme:
        for kind in islice(cycle(KINDS), KILLS):
            programme.kill(kind)
        programme.settle()
    with capsys.disabled():
        sys.stdout.write(f"\n{programme.report.words()}\n")
    assert programme.report.p95_s <= most_p95_s()


@pytest.mark.slow
@pytest.mark.timeout(PAUSES * 60 + 300)
def test_paused_leaders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kill_programme(tmp_path, seed=PAUSES) as programme:
        for _ in range(PAUSES):
            programme.pause_leader()
        programme.settle()
    with capsys.disabled():
        sys.stdout.write(f"\n{programme.report.words()}\n")
    assert programme.report.p95_s <= most_p95_s()
