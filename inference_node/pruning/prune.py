"""Cutting activations in the forward, counting what was cut, and learning where to cut."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from inference_node.pruning.thresholds import SHARES, LayerCutoffs, PruningTable, Site

# torch.quantile takes at most 16 million values; a strided sample of this many places a quantile within 0.1 %.
_SAMPLE = 1_000_000


class Pruner:
    """Drops activations of at most the cut-off, and counts. One forward at a time; `ratio` is of the MLP's sites."""

    def __init__(self, cutoffs: tuple[LayerCutoffs, ...]) -> None:
        self._cutoffs = cutoffs
        # [layers, 4] fp32, for kernels that cut by themselves.
        self.taus = torch.tensor([[getattr(layer, site.value) for site in Site] for layer in cutoffs])
        self._dropped = 0
        self._seen = 0
        self._rows = 0

    def begin(self, rows: int) -> None:
        """A new step, of whose rows the first `rows` are real and the others padding."""
        self._dropped = self._seen = 0
        self._rows = rows

    def __call__(self, layer: int, site: Site, x: Tensor) -> Tensor:
        """x: [M, C]; returns it with small entries at zero."""
        kept = functional.hardshrink(x, getattr(self._cutoffs[layer], site.value))
        if site is Site.MLP_IN or site is Site.MLP_MIDDLE:
            real = kept[: self._rows]
            self._seen += real.numel()
            self._dropped += real.numel() - int(real.count_nonzero())
        return kept

    def feed(self, kept: Tensor, widths: Sequence[int], rows: int) -> None:
        """What a kernel counted that cut by itself. kept: [layers, 4], summed over rows; widths: inputs of each site."""
        mlp = [list(Site).index(site) for site in (Site.MLP_IN, Site.MLP_MIDDLE)]
        self._seen = rows * kept.shape[0] * sum(widths[place] for place in mlp)
        self._dropped = self._seen - int(kept[:, mlp].sum())

    @property
    def ratio(self) -> float:
        """Share of the MLP's channels dropped in the step, 0 to 1."""
        return self._dropped / self._seen if self._seen else 0.0


class Observer:
    """Takes the Pruner's place in a forward and only looks: gathers magnitudes per layer and site."""

    def __init__(self, num_layers: int) -> None:
        self._seen: dict[Site, list[list[Tensor]]] = {site: [[] for _ in range(num_layers)] for site in Site}
        self._rows = 0

    def begin(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, layer: int, site: Site, x: Tensor) -> Tensor:
        self._seen[site][layer].append(x[: self._rows].float().abs().flatten())
        return x

    def table(self) -> PruningTable:
        """Quantiles of all that was seen."""
        shares = torch.tensor(SHARES)
        return PruningTable(
            {
                site: tuple(tuple(torch.quantile(_sample(torch.cat(seen)), shares).tolist()) for seen in layers)
                for site, layers in self._seen.items()
            }
        )


def _sample(values: Tensor) -> Tensor:
    return values[:: max(1, -(-values.numel() // _SAMPLE))]
