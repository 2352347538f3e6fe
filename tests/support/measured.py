"""What takes a node long to find out of the demo model, found out once in a run.

`quality` is how good its answers are under which settings, `calibration` what pruning may leave out. Both name the model and
the code that made them, so what a node finds in its folder is what it would have found out itself. Tests of the finding out
have folders of their own.
"""

from pathlib import Path

import pytest

KINDS = ("quality", "calibration")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder that all processes of a run share."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "measured"


def share(measured: Path, data_dir: Path) -> Path:
    """A data folder that has what was found out, and keeps there what is found out in it."""
    for kind in KINDS:
        (measured / kind).mkdir(parents=True, exist_ok=True)
        (data_dir / kind).symlink_to(measured / kind, target_is_directory=True)
    return data_dir
