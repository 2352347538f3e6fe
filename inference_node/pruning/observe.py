"""Looking at activations in the forward, where a Pruner would cut them."""

import torch
from torch import Tensor

from inference_node.pruning.thresholds import SHARES, SITES, Site

# Of a text so many rows are kept, evenly over it: with their channels 100,000 sizes a site, which place a quantile within 0.2 %.
_ROWS = 192


class Observer:
    """Takes the Pruner's place in a forward and only looks: gathers magnitudes per layer and site.

    skip: rows at the start of a text that are not looked at. A text's first token has a few activations of a hundred times the
    usual size in many models (Sun et al., "Massive Activations in Large Language Models", 2024), and no answer starts there.
    """

    def __init__(self, num_layers: int, *, skip: int = 0) -> None:
        self._seen: dict[tuple[int, Site], list[Tensor]] = {(i, site): [] for i in range(num_layers) for site in SITES}
        self._num_layers, self._skip, self._rows = num_layers, skip, 0

    def begin(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, layer: int, site: Site, x: Tensor) -> Tensor:
        rows = x[self._skip : self._rows]
        self._seen[layer, site].append(rows[:: -(-len(rows) // _ROWS) or 1].float().abs().flatten())
        return x

    def quantiles(self) -> Tensor:
        """[L, 4, len(SHARES)]: the magnitude below which that share of a site's entries lay."""
        return self._curves()[0]

    def errors(self) -> Tensor:
        """[L, 4, len(SHARES)]: what dropping that share takes from the activations' energy, as a share of all of it."""
        return self._curves()[1]

    def _curves(self) -> tuple[Tensor, Tensor]:
        shape = (self._num_layers, len(SITES), len(SHARES))
        quantiles, errors = torch.zeros(shape), torch.zeros(shape)
        for (layer, site), seen in self._seen.items():
            sizes = torch.cat(seen).sort().values
            count = sizes.numel()
            dropped = (torch.tensor(SHARES) * count).long()
            energy = torch.cat((torch.zeros(1, dtype=torch.float64), sizes.double().square().cumsum(0)))
            place = SITES.index(site)
            # The largest of those that are dropped: a cut-off drops what equals it. Dropping none takes no cut-off.
            quantiles[layer, place] = torch.where(dropped > 0, sizes[(dropped - 1).clamp_min(0)], 0.0)
            errors[layer, place] = (energy[dropped] / energy[-1].clamp_min(1e-300)).float()
        return quantiles, errors
