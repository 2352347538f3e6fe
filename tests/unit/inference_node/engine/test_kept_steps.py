"""Step times on disk: what is read back, and what is not believed."""

import os
from pathlib import Path

import pytest

from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic, StepShape
from inference_node.engine.kept_steps import Identity, KeptStep, KeptSteps, KeptTrack, load_steps, save_steps

IDENTITY = Identity("machine", "model", "1")


def kept(identity: Identity = IDENTITY) -> KeptSteps:
    step = KeptStep(shape=StepShape(4, 0, 0, 400), step_s=0.01)
    return KeptSteps(
        identity=identity, tracks=(KeptTrack(arithmetic=StepArithmetic.of(EngineSettings()), steps=(step,)),)
    )


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    save_steps(tmp_path / "new", kept())
    assert load_steps(tmp_path / "new", IDENTITY) == kept()


@pytest.mark.parametrize(
    "other", [Identity("x", "model", "1"), Identity("machine", "x", "1"), Identity("machine", "model", "2")]
)
def test_is_for_one_machine_model_and_version(tmp_path: Path, other: Identity) -> None:
    save_steps(tmp_path, kept())
    assert load_steps(tmp_path, other) is None
    # nor when somebody copies the file to the other's name
    os.rename(tmp_path / IDENTITY.file_name, tmp_path / other.file_name)
    assert load_steps(tmp_path, other) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"identity": 3}', b"\xff\xfe"])
def test_what_is_damaged_is_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / IDENTITY.file_name).write_bytes(content)
    assert load_steps(tmp_path, IDENTITY) is None


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    save_steps(tmp_path, kept())
    save_steps(tmp_path, kept())
    assert [path.name for path in tmp_path.iterdir()] == [IDENTITY.file_name]
