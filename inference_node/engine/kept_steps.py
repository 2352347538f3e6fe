"""Step times on disk, so that a node that starts again knows what it knew: one file for each machine, model and version."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from inference_node.contract.step_profile import StepArithmetic, StepShape


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose step times these are: fingerprints of the machine and of the weights, and the engine's version."""

    hardware: str = ""
    model: str = ""
    engine_version: str = ""

    @property
    def file_name(self) -> str:
        text = "\n".join((self.hardware, self.model, self.engine_version))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class KeptStep(_Document):
    """One step: its shape, and its seconds at the level of its time."""

    shape: StepShape
    step_s: float


class KeptTrack(_Document):
    """Steps of one arithmetic, those of a cell together."""

    arithmetic: StepArithmetic
    steps: tuple[KeptStep, ...]


class KeptSteps(_Document):
    """The whole file. The identity stands in it, too: names can collide and files be copied."""

    identity: Identity
    tracks: tuple[KeptTrack, ...]


def load_steps(folder: Path, identity: Identity) -> KeptSteps | None:
    """What was kept for this identity; None when there is nothing or it cannot be read: a probe is the way out of both."""
    try:
        kept = KeptSteps.model_validate_json((folder / identity.file_name).read_bytes())
    except (OSError, ValidationError):
        return None
    return kept if kept.identity == identity else None


def save_steps(folder: Path, kept: KeptSteps) -> None:
    """Replaces the file whole. Raises OSError when the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / kept.identity.file_name
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=folder, delete=False) as handle:
        temporary = Path(handle.name)
        try:
            handle.write(kept.model_dump_json().encode())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    temporary.replace(path)
