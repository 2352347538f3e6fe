"""Recorded requests: when they came, and how many tokens they brought and asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from controlplane.errors import Invalid

SUFFIX = ".requests.parquet"
_COLUMNS = ("t", "input_tokens", "output_tokens")


class BadRequests(Invalid):
    """A folder or a file of requests that cannot be replayed; the text names the file, the column and the way out."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`t`: [N] seconds from the first request, ascending. `prompt` and `answer`: [N] tokens, 1 at least."""

    name: str
    t: NDArray[np.float64]
    prompt: NDArray[np.int64]
    answer: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.t)

    @property
    def duration_s(self) -> float:
        return float(self.t[-1]) if len(self) else 0.0

    def first(self, seconds: float) -> "Arrivals":
        """Those of the first `seconds`."""
        return self._where(self.t <= seconds)

    def thinned(self, share: float, seed: int) -> "Arrivals":
        """Each request is kept with probability `share`, whatever the others do: a smaller service, loaded alike."""
        return self if share >= 1 else self._where(np.random.default_rng(seed).random(len(self)) < share)

    def scaled(self, share: float, seed: int, jitter_s: float = 15.0) -> "Arrivals":
        """Thinned, or for a share over 1 several times itself: copies whose requests come up to `jitter_s` earlier or later: the
        load is that of a larger service from half a minute on, and chance below."""
        if share <= 1:
            return self.thinned(share, seed)
        rng = np.random.default_rng([seed, 7])
        parts = [np.arange(len(self))] * int(share)
        parts.append(np.flatnonzero(rng.random(len(self)) < share % 1))
        index = np.concatenate(parts)
        t = np.clip(self.t[index] + rng.uniform(-jitter_s, jitter_s, len(index)), 0.0, self.duration_s)
        order = np.argsort(t, kind="stable")
        index = index[order]
        return Arrivals(self.name, t[order], self.prompt[index], self.answer[index])

    def part(self, name: str, start_s: float, length_s: float) -> "Arrivals":
        """Those of a window, from its begin on."""
        kept = self._where((self.t >= start_s) & (self.t < start_s + length_s))
        return Arrivals(name, kept.t - start_s, kept.prompt, kept.answer)

    def clipped(self, prompt: int, answer: int) -> "Arrivals":
        """With no prompt and no answer longer than that: what the simulated model can hold."""
        return Arrivals(self.name, self.t, np.minimum(self.prompt, prompt), np.minimum(self.answer, answer))

    def _where(self, kept: NDArray[np.bool_]) -> "Arrivals":
        return Arrivals(self.name, self.t[kept], self.prompt[kept], self.answer[kept])


def read_folder(folder: Path) -> list[Arrivals]:
    """Every trace of requests in the folder, by name. Raises BadRequests."""
    if not folder.is_dir():
        raise BadRequests(f"{folder} is no folder; name one that holds files called NAME{SUFFIX}")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    if not files:
        raise BadRequests(f"{folder} holds no file called NAME{SUFFIX}")
    return [read_requests(path) for path in files]


def read_requests(path: Path) -> Arrivals:
    """Raises BadRequests when the file cannot be read, lacks a column, or holds nothing usable."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise BadRequests(f"{path.name} cannot be read as Parquet: {str(error)[:200]}") from error
    return arrivals_of(path.name.removesuffix(SUFFIX), frame)


def arrivals_of(name: str, frame: pd.DataFrame) -> Arrivals:
    """Rows with a column that is no number, or not finite, are left out; order does not matter. Raises BadRequests."""
    missing = [column for column in _COLUMNS if column not in frame.columns]
    if missing:
        raise BadRequests(f"{name} lacks the column {missing[0]}; it needs {', '.join(_COLUMNS)}")
    numbers = frame[list(_COLUMNS)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers).all(axis=1)]
    if len(numbers) < 2:
        raise BadRequests(f"{name} holds {len(numbers)} usable requests; a replay needs 2 at least")
    numbers = numbers[np.argsort(numbers[:, 0], kind="stable")]
    tokens = np.maximum(numbers[:, 1:], 1).astype(np.int64)
    return Arrivals(name, numbers[:, 0] - numbers[0, 0], tokens[:, 0], tokens[:, 1])
