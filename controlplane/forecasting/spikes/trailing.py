"""Statistics over trailing windows, all of past and present only: value i rests on values 0..i.

Arrays are [N] float; NaN means not measured and is left out of means and maxima (no value at all gives NaN).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean(values: Floats, width: int) -> Floats:
    """Mean of the newest `width` values; near the beginning of as many as there are."""
    known = np.isfinite(values)
    total = _sums(np.where(known, values, 0.0), width)
    count = _sums(known.astype(float), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0.5, total / count, np.nan)


def std(values: Floats, width: int) -> Floats:
    """Population standard deviation of the newest `width` values."""
    # Around a level near the values: differences of large sums of squares would lose the digits that matter.
    level = values[np.isfinite(values)][:1]
    shifted = values - (level[0] if len(level) else 0.0)
    centre = mean(shifted, width)
    return np.sqrt(np.maximum(mean(shifted * shifted, width) - centre * centre, 0.0))


def maximum(values: Floats, width: int) -> Floats:
    """Largest of the newest `width` values, by doubling: log2(width) passes over the array."""
    best = np.where(np.isfinite(values), values, -np.inf)
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        best = np.maximum(best, lag(best, step, fill=-np.inf))
        covered += step
    return np.where(np.isfinite(best), best, np.nan)


def minimum(values: Floats, width: int) -> Floats:
    return -maximum(-values, width)


def slope(values: Floats, width: int) -> Floats:
    """Least-squares slope per window over the newest `width` values (0 before there are so many; unknown values count as 0)."""
    filled = np.nan_to_num(values)
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


def _sums(values: Floats, width: int) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    found: Floats = total[end] - total[np.maximum(end - width, 0)]
    return found
