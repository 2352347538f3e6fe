"""A Gaussian process over differences: what is unknown is f, and each sample tells f(place) - f(base), with noise. Pure.

Written here because it is short: a library would cost each process that decides tens of MB, and its bits hang on the machine's
BLAS, while a choice must come out the same when it is made again.
Source: Rasmussen, Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1, with a product kernel. We depart in
one thing: covariances are those of differences, so that at the base itself nothing is uncertain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_JITTER = 1e-9  # keeps equal samples apart


@dataclass(frozen=True, slots=True)
class Kernel:
    """Squared-exponential. sd: of f; scales: by coordinate, how far apart values tell nothing of each other any more;
    context_scale: the same for the context, which both ends of a difference share."""

    sd: float
    scales: tuple[float, ...]
    context_scale: float

    def of(self, one: Sequence[float], other: Sequence[float]) -> float:
        apart = sum(((a - b) / scale) ** 2 for a, b, scale in zip(one, other, self.scales, strict=True))
        return self.sd**2 * math.exp(-apart / 2)

    def of_differences(self, one: "Difference", other: "Difference") -> float:
        shared = math.exp(-(((one.context - other.context) / self.context_scale) ** 2) / 2)
        between = (
            self.of(one.place, other.place)
            - self.of(one.place, other.base)
            - self.of(one.base, other.place)
            + self.of(one.base, other.base)
        )
        return shared * between


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a difference is taken: f(place) - f(base), both in one context."""

    place: tuple[float, ...]
    base: tuple[float, ...]
    context: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured difference, and the standard deviation of its noise, above 0."""

    at: Difference
    value: float
    noise_sd: float


class Posterior:
    """What samples tell of differences elsewhere. Takes O(n³) once and O(n²) for each question."""

    def __init__(self, kernel: Kernel, samples: Sequence[Sample]) -> None:
        self._kernel, self._places = kernel, [sample.at for sample in samples]
        rows = [
            [kernel.of_differences(one.at, other.at) for other in samples[: place + 1]]
            for place, one in enumerate(samples)
        ]
        for place, sample in enumerate(samples):
            rows[place][place] += sample.noise_sd**2 + _JITTER
        self._lower = _cholesky(rows)
        self._weighted = _solve_lower(self._lower, [sample.value for sample in samples])

    def at(self, where: Difference) -> tuple[float, float]:
        """(mean, standard deviation) of the difference itself, without noise."""
        towards = _solve_lower(self._lower, [self._kernel.of_differences(where, place) for place in self._places])
        mean = math.fsum(a * b for a, b in zip(towards, self._weighted, strict=True))
        variance = self._kernel.of_differences(where, where) - math.fsum(a * a for a in towards)
        return mean, math.sqrt(max(variance, 0.0))


def _cholesky(rows: list[list[float]]) -> list[list[float]]:
    """rows: the lower triangle of a positive definite matrix. Returns L with L Lᵀ = the matrix, again its lower triangle."""
    lower: list[list[float]] = []
    for i, row in enumerate(rows):
        found: list[float] = []
        for j in range(i):
            inner = math.fsum(a * b for a, b in zip(found, lower[j][:j], strict=True))
            found.append((row[j] - inner) / lower[j][j])
        found.append(math.sqrt(max(row[i] - math.fsum(a * a for a in found), _JITTER)))
        lower.append(found)
    return lower


def _solve_lower(lower: list[list[float]], right: Sequence[float]) -> list[float]:
    """x with L x = right."""
    found: list[float] = []
    for row, value in zip(lower, right, strict=True):
        inner = math.fsum(a * b for a, b in zip(row[:-1], found, strict=True))
        found.append((value - inner) / row[-1])
    return found
