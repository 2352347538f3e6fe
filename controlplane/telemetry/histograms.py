"""Quantiles of classic histograms, as Prometheus computes them."""

import math
from collections.abc import Mapping
from itertools import accumulate


def bucket_quantile(q: float, counts: Mapping[float, float]) -> float | None:
    """counts: upper bound -> observations up to it, `inf` among the bounds. None where nothing was observed.

    As `histogram_quantile` does: within a bucket observations are taken to be spread evenly, the lowest begins at 0, beyond the
    last finite bound nothing is known, and a count below the one before it (a scrape amid an update) counts as that.
    """
    bounds = sorted(counts)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):
        return None
    heights = list(accumulate((counts[bound] for bound in bounds), max))
    rank = q * heights[-1]
    if not heights[-1] > 0:
        return None
    place = next(index for index, height in enumerate(heights) if height >= rank)
    if place == len(bounds) - 1:
        return bounds[-2]
    if place == 0 and bounds[0] <= 0:
        return bounds[0]
    low, below = (bounds[place - 1], heights[place - 1]) if place else (0.0, 0.0)
    inside = heights[place] - below
    return low if inside <= 0 else low + (bounds[place] - low) * (rank - below) / inside
