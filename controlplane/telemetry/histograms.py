"""Classic histograms: quantiles, as Prometheus computes them, and how much lies above a limit."""

import math
from bisect import bisect_left
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


def count_above(limit: float, counts: Mapping[float, float]) -> tuple[float, float] | None:
    """(observations above `limit`, all of them); counts as in `bucket_quantile`. None where they are no histogram.

    Exact where `limit` is a bound; within a bucket observations are taken to be spread evenly. Beyond the last finite bound
    nothing is known, and all that lies there counts as above.
    """
    bounds = sorted(counts)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):
        return None
    heights = list(accumulate((counts[bound] for bound in bounds), max))
    place = bisect_left(bounds, limit)
    if place >= len(bounds) - 1:
        return heights[-1] - heights[-2], heights[-1]
    low, below = (bounds[place - 1], heights[place - 1]) if place else (0.0, 0.0)
    share = min(max((limit - low) / (bounds[place] - low), 0.0), 1.0) if bounds[place] > low else 1.0
    up_to = below + share * (heights[place] - below)
    return max(heights[-1] - up_to, 0.0), heights[-1]
