"""Cutting activations in the forward, and counting what was cut."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from inference_node.pruning.thresholds import SITES, Site


class Pruner:
    """Drops activations of at most the cut-off, and counts. One forward at a time.

    taus: [layers, 4] fp32, sites in the order of Site; a row is cut by its own sizes alone, whoever is computed beside it.
    weights: [layers, 4], what share of the layers' weights stands behind each site; without them all weigh alike.
    """

    def __init__(self, taus: Tensor, weights: Tensor | None = None) -> None:
        # For kernels that cut by themselves, which read it row by row.
        self.taus = taus.float().contiguous()
        self._weights = torch.full(taus.shape, 1 / taus.numel()) if weights is None else weights
        self._cutoffs: list[list[float]] = self.taus.tolist()
        self._kept = torch.zeros(taus.shape, dtype=torch.int64)
        self._widths = [0] * len(SITES)
        self._rows = 0

    def begin(self, rows: int) -> None:
        """A new step, of whose rows the first `rows` are real and the others padding."""
        self._kept.zero_()
        self._rows = rows

    def __call__(self, layer: int, site: Site, x: Tensor) -> Tensor:
        """x: [M, C]; returns it with small entries at zero. Spares no reading: torch multiplies by the zeros."""
        place = SITES.index(site)
        kept = functional.hardshrink(x, self._cutoffs[layer][place])
        self._widths[place] = x.shape[1]
        self._kept[layer, place] = int(kept[: self._rows].count_nonzero())
        return kept

    def feed(self, kept: Tensor, widths: Sequence[int], rows: int) -> None:
        """What a kernel counted that cut by itself. kept: [layers, 4], summed over rows; widths: inputs of each site."""
        self._kept, self._widths, self._rows = kept, list(widths), rows

    @property
    def ratio(self) -> float:
        """Share of the layers' weights that the last step's rows had no use for, 0 to 1."""
        if self._rows == 0 or not all(self._widths):
            return 0.0
        used = self._kept / (torch.tensor(self._widths) * self._rows)
        return max(0.0, 1 - float((used * self._weights).sum()))
