"""The two tests that verdicts rest on, exact for the small samples that canaries give.

Written here because they are short, and because importing scipy.stats would cost each process that reads rollouts 60 MB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median


@dataclass(frozen=True, slots=True)
class Estimate:
    """A location and its confidence interval."""

    value: float
    low: float
    high: float


def hodges_lehmann(values: Sequence[float], confidence: float) -> Estimate | None:
    """Pseudo-median of `values` with the interval that inverts Wilcoxon's signed-rank test, exact under symmetry.

    None when there are too few values for that confidence (95 % needs 6, 97.5 % needs 7).
    Source: Hollander, Wolfe, Chicken, "Nonparametric Statistical Methods", 3rd ed. (2014), sections 3.2 and 3.3.
    """
    n = len(values)
    below = _signed_rank_cutoff(n, (1 - confidence) / 2)
    if below is None:
        return None
    walsh = sorted((values[i] + values[j]) / 2 for i in range(n) for j in range(i, n))
    return Estimate(median(walsh), walsh[below], walsh[-1 - below])


def difference(after: Estimate, before: Estimate) -> Estimate:
    """after - before; the half-widths of independent intervals add up in quadrature."""
    value = after.value - before.value
    low = value - math.hypot(after.value - after.low, before.high - before.value)
    high = value + math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, low, high)


def fisher_greater(events: int, total: int, events_reference: int, total_reference: int) -> float:
    """One-sided p-value of Fisher's exact test that the rate events/total is above the reference's rate.

    1.0 when either side has no trials. Source: Fisher, "The Design of Experiments" (1935), section 12.
    """
    if not 0 <= events <= total or not 0 <= events_reference <= total_reference:
        raise ValueError(f"counts out of order: {events} of {total}, {events_reference} of {total_reference}")
    if total == 0 or total_reference == 0:
        return 1.0
    everything, hits = total + total_reference, events + events_reference
    top = min(hits, total)
    ways = sum(math.comb(hits, k) * math.comb(everything - hits, total - k) for k in range(events, top + 1))
    return ways / math.comb(everything, total)


@lru_cache(maxsize=256)
def _signed_rank_cutoff(n: int, tail: float) -> int | None:
    """How many of the sorted Walsh averages lie outside the interval at each end: P(W+ < that many) <= tail, the most that fit.

    None when not even the outermost average may be left out, so that no interval of that confidence exists.
    """
    if n == 0:
        return None
    counts = [1]  # counts[w]: subsets of {1..n} with sum w
    for rank in range(1, n + 1):
        grown = [0] * (len(counts) + rank)
        for total, ways in enumerate(counts):
            grown[total] += ways
            grown[total + rank] += ways
        counts = grown
    allowed = tail * 2**n
    if counts[0] > allowed:
        return None
    left_out, cumulative = 0, 0
    for total, ways in enumerate(counts):
        cumulative += ways
        if cumulative > allowed:
            break
        left_out = total
    return left_out
