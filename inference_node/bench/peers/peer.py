"""What every adapter of another engine offers: which precisions it has, and how its server is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inference_node.bench.process import Launch
from inference_node.contract.settings import Precision
from inference_node.errors import Invalid


@dataclass(frozen=True, slots=True)
class Setting:
    """What is equal for all engines of one measurement. `gguf_dir` keeps converted files; `model` is a Hugging Face folder."""

    model: Path
    model_name: str
    gguf_dir: Path
    max_streams: int
    threads: int


class Peer(Protocol):
    """Another serving engine."""

    @property
    def name(self) -> str: ...

    @property
    def package(self) -> str:
        """What pip installs, and whose version is reported."""

    @property
    def precisions(self) -> tuple[Precision, ...]: ...

    def install(self, venv: Path) -> tuple[str, ...]:
        """Shell lines that make its virtual environment."""

    def launch(self, setting: Setting, precision: Precision, venv: Path, port: int) -> Launch:
        """How to serve `setting.model` in `precision`. May convert the model first (seconds)."""


def python_of(venv: Path) -> str:
    """Raises Invalid when there is no such environment."""
    # Not resolved: the link itself is what makes Python use the environment.
    python = venv.expanduser().absolute() / "bin" / "python"
    if not python.exists():
        raise Invalid(
            f"{venv} is no virtual environment (there is no {python}); `trimtab bench peers` shows how it is made"
        )
    return str(python)


def behind_door(python: str, setting: Setting, port: int, engine: str, *arguments: str) -> tuple[str, ...]:
    """Command of a server for a library that has none: our thin door, and behind it our file `engine` with the library."""
    folder = Path(__file__).parent / "servers"
    door = (python, str(folder / "door.py"), "--port", str(port), "--name", setting.model_name, "--")
    return (*door, python, str(folder / engine), *arguments)
