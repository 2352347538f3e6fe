"""Statistics over trailing windows, all of past and present only: value i rests on values 0..i.

Arrays are [N] float; NaN means not measured and is left out of means and maxima (no value at all gives NaN).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Sums:
    """Running sums of one series, kept for means of several widths: a tick asks for hundreds, and each sum is a pass."""

    def __init__(self, values: Floats) -> None:
        known = np.isfinite(values)
        self._whole = bool(known.all())
        self._end = np.arange(1, len(values) + 1)
        self._total = _running(values if self._whole else zeroed(values))
        self._count = None if self._whole else _running(known.astype(float))

    def mean(self, width: int) -> Floats:
        """Of the newest `width` values; near the beginning of as many as there are. NaN where none is known."""
        start = np.maximum(self._end - width, 0)
        total: Floats = self._total[1:] - self._total[start]
        if self._count is None:
            return total / (self._end - start)
        count = self._count[1:] - self._count[start]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0.5, total / count, np.nan)


class Spread:
    """Standard deviations of one series over several widths."""

    def __init__(self, values: Floats) -> None:
        # Around a level near the values: differences of large sums of squares would lose the digits that matter.
        level = values[np.isfinite(values)][:1]
        shifted = values - (level[0] if len(level) else 0.0)
        self._first, self._second = Sums(shifted), Sums(shifted * shifted)

    def std(self, width: int) -> Floats:
        """Population standard deviation of the newest `width` values."""
        centre = self._first.mean(width)
        return np.sqrt(np.maximum(self._second.mean(width) - centre * centre, 0.0))


def mean(values: Floats, width: int) -> Floats:
    """Mean of the newest `width` values; near the beginning of as many as there are."""
    return Sums(values).mean(width)


def std(values: Floats, width: int) -> Floats:
    """Population standard deviation of the newest `width` values."""
    return Spread(values).std(width)


def zeroed(values: Floats) -> Floats:
    """With 0 for what is not known."""
    known = np.isfinite(values)
    return values if known.all() else np.where(known, values, 0.0)


def maximum(values: Floats, width: int) -> Floats:
    """Largest of the newest `width` values, by doubling: log2(width) passes over the array."""
    known = np.isfinite(values)
    best = values.copy() if known.all() else np.where(known, values, -np.inf)
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        if step >= len(best):
            np.maximum.accumulate(best, out=best)
            break
        # The values before are read before they are written over: numpy keeps overlapping operands apart.
        np.maximum(best[step:], best[:-step], out=best[step:])
        covered += step
    return best if known.all() else np.where(np.isfinite(best), best, np.nan)


def minimum(values: Floats, width: int) -> Floats:
    return -maximum(-values, width)


def slope(values: Floats, width: int) -> Floats:
    """Least-squares slope per window over the newest `width` values (0 before there are so many; unknown values count as 0)."""
    filled = zeroed(values)
    index = np.arange(len(filled), dtype=float)
    centre = (width - 1) / 2
    # Sum of (j - centre) * value over the window, from running sums; j counts within the window.
    weighted = _sums(index * filled, width) - (index - width + 1 + centre) * _sums(filled, width)
    found = weighted / (width * (width * width - 1) / 12)
    return np.where(index >= width - 1, found, 0.0)


def lag(values: Floats, by: int, fill: float = np.nan) -> Floats:
    """The value `by` windows ago; `fill` before the first."""
    if by == 0:
        return values
    out = np.full(len(values), fill)
    out[by:] = values[:-by] if by < len(values) else []
    return out


def smoothed(values: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean, weights halving each `half_life` windows; unknown values let the weight pass."""
    weight = 1 - 0.5 ** (1 / half_life)
    out = np.empty(len(values))
    level = np.nan
    for i, value in enumerate(values.tolist()):
        if value == value:  # not NaN
            level = value if level != level else level + weight * (value - level)
        out[i] = level
    return out


def since(flags: NDArray[np.bool_], limit: int) -> Floats:
    """Windows since the flag last held (0: now), at most `limit`."""
    index = np.arange(len(flags))
    last = np.maximum.accumulate(np.where(flags, index, -limit))
    return np.minimum(index - last, limit).astype(float)


def _running(values: Floats) -> Floats:
    total = np.empty(len(values) + 1)
    total[0] = 0.0
    np.cumsum(values, out=total[1:])
    return total


def _sums(values: Floats, width: int) -> Floats:
    total = _running(values)
    end = np.arange(1, len(values) + 1)
    found: Floats = total[end] - total[np.maximum(end - width, 0)]
    return found
