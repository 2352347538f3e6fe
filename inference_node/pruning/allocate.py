"""Which activations to drop first, over a whole model: every saved byte is taken where it costs the least."""

import heapq
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

# No site gives up more than this: what is left would rest on a few outliers of the calibration text.
LARGEST_SHARE = 0.9


def allocate(costs: Tensor, weights: Tensor, shares: Sequence[float], rates: Sequence[float]) -> Tensor:
    """For each of `rates`, what share of its inputs every site drops: [R, L, 4], growing along R.

    costs: [L, 4, Q], what a site's answer suffers when it drops shares[q] of its inputs: 0 at first, and ever steeper.
    weights: [L, 4], any unit of bytes; a rate is a share of their sum. shares grow from 0; rates grow too.
    Method: greedy, one raise of one site at a time, the least cost per byte first. With costs that only get steeper this is the
    best division for every rate on the way. Liu et al., "Training-Free Activation Sparsity in Large Language Models" (2024),
    section 5, divide so within a block; we do over all layers.
    Raises ValueError when a rate is beyond what LARGEST_SHARE leaves.
    """
    num_sites = weights.numel()
    bytes_of: list[float] = (weights.double() / weights.double().sum()).flatten().tolist()
    cost: list[list[float]] = costs.double().reshape(num_sites, len(shares)).tolist()
    last = bisect_left(shares, LARGEST_SHARE + 1e-9) - 1

    def price(site: int, raised: int) -> float:
        return (cost[site][raised + 1] - cost[site][raised]) / ((shares[raised + 1] - shares[raised]) * bytes_of[site])

    level = [0] * num_sites
    queue = [(price(site, 0), site) for site in range(num_sites)]
    heapq.heapify(queue)
    now = [0.0] * num_sites
    skipped = 0.0
    path: list[list[float]] = []
    for rate in rates:
        while skipped < rate - 1e-12:
            if not queue:
                raise ValueError(
                    f"rate {rate} is beyond {skipped:.3f}, which sites leave when each drops {LARGEST_SHARE}"
                )
            site = queue[0][1]
            top = shares[level[site] + 1]
            # The last raise before a rate is cut where the rate is met.
            step = min(top - now[site], (rate - skipped) / bytes_of[site])
            now[site] += step
            skipped += step * bytes_of[site]
            if now[site] >= top - 1e-9:
                level[site] += 1
                heapq.heappop(queue)
                if level[site] < last:
                    heapq.heappush(queue, (price(site, level[site]), site))
        path.append(list(now))
    return torch.tensor(path, dtype=torch.float32).view(len(rates), *weights.shape)
