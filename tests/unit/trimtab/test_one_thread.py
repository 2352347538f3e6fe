"""The control plane's processes compute on one thread, unless whoever starts them says otherwise."""

import os
import subprocess
import sys

import pytest

from trimtab.one_thread import ONE_THREAD

# Instead of the process itself: what numpy's BLAS computes with, once numpy is there.
SHOW = """
import sys
from trimtab.cli import processes
from trimtab.errors import UsageError
assert "numpy" not in sys.modules, "the command line has imported numpy before it could be told"
try:
    processes.controller()
except UsageError as ended:  # before it does anything, and after it has imported all
    assert "CONTROLPLANE_TICK_S" in str(ended), ended
from threadpoolctl import threadpool_info
print({pool["num_threads"] for pool in threadpool_info()})
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a library takes no more threads than there are cores")
@pytest.mark.parametrize(("said", "threads"), [({}, "{1}"), ({"OPENBLAS_NUM_THREADS": "2"}, "{2}")])
def test_the_controller_computes_on_one(said: dict[str, str], threads: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    environment = plain | {"CONTROLPLANE_TICK_S": "no number"} | said
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == threads
