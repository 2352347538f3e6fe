"""How far a figure can be trusted: Wilson intervals of shares, and a block bootstrap of what is no share."""

from collections.abc import Callable, Sequence

import numpy as np

from controlplane.forecasting.spikes.matching import NOTHING, Verdict

Z95 = 1.959964
_ROUNDS = 1000


def wilson(successes: int, trials: int) -> tuple[float, float] | None:
    """95 % interval of a share (Wilson, "Probable inference", JASA 22, 1927); None without trials."""
    if not trials:
        return None
    share, n = successes / trials, float(trials)
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * float(np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)))
    # At 0 and 1 the bound is the share itself, which rounding must not leave outside.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def bootstrap(
    blocks: Sequence[Verdict], figure: Callable[[Verdict], float], seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of `figure` over blocks drawn with replacement (a block: some hours of one trace, so that warnings and spikes
    that belong together stay together). None when fewer than three blocks, or when too few draws have the figure at all."""
    if len(blocks) < 3:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for draw in rng.integers(0, len(blocks), size=(_ROUNDS, len(blocks))):
        value = figure(sum((blocks[i] for i in draw), NOTHING))
        if np.isfinite(value):
            found.append(value)
    if len(found) < _ROUNDS // 2:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
