"""A recording of windows without any change, as a file."""

from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from trimtab.errors import CommandError


class NoiseWindow(BaseModel):
    """One window of one node. Latencies in seconds, None when nothing finished; requests and errors are counts."""

    model_config = ConfigDict(frozen=True)

    ttft_p95_s: float | None
    itl_p95_s: float | None
    requests: int
    errors: int = 0


class Recording(BaseModel):
    """`nodes` holds each node's windows in order, taken at the same times; None where the machine paused."""

    model_config = ConfigDict(frozen=True)

    recorded_at: datetime
    model: str
    window_s: float
    rate_rps: float
    about: str
    nodes: tuple[tuple[NoiseWindow | None, ...], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises CommandError that names what is wrong with the file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CommandError(f"the recording {path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CommandError(f"{path} is no recording of noise: {where}: {first['msg']}") from None

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json())
