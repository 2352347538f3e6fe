"""Cut-offs below which activations count as zero, looked up for any share of the weights' bytes that is to be skipped.

Method: magnitude pruning of the inputs of each matrix, Liu et al., "Training-Free Activation Sparsity in Large Language Models"
(TEAL, 2024), section 4, with the shares that `allocate` found for each site.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inference_node.errors import Invalid

# Shares at which quantiles are kept; between two of them the cut-off is interpolated.
SHARES = tuple(i / 40 for i in range(39))
# Rates, as shares of all layers' weight bytes, for which the division over sites is kept. Up to where pruning_threshold may go.
RATES = tuple(i / 100 for i in range(71))
_VERSION = "2"


class CalibrationInvalid(Invalid):
    """A file of cut-offs is damaged or was made for another model."""


class Site(StrEnum):
    """Which activations: what goes into qkv, into the attention's output matrix, into gate and up, into down."""

    ATTENTION_IN = "attention_in"
    ATTENTION_OUT = "attention_out"
    MLP_IN = "mlp_in"
    MLP_MIDDLE = "mlp_middle"


SITES = tuple(Site)


@dataclass(frozen=True, slots=True)
class PruningTable:
    """What a model's calibration found. L layers, 4 sites in the order of Site, all fp32.

    quantiles: [L, 4, len(SHARES)], the magnitude below which that share of the site's entries lay.
    path: [len(RATES), L, 4], the share that each site drops so that all together skip that rate.
    weights: [L, 4], the share of all layers' weights that stands behind each site; sums to 1.
    """

    quantiles: Tensor
    path: Tensor
    weights: Tensor

    @property
    def num_layers(self) -> int:
        return self.quantiles.shape[0]

    def shares(self, rate: float) -> Tensor:
        """[L, 4]: what each site drops when `rate` (0 to 0.7) of the layers' weight bytes is to be skipped."""
        assert 0.0 <= rate <= RATES[-1]
        return _between(self.path.movedim(0, -1), torch.full(self.weights.shape, rate), RATES)

    def cutoffs(self, rate: float) -> Tensor:
        """[L, 4]: entries of at most this magnitude are dropped, in the activations' own units."""
        return _between(self.quantiles, self.shares(rate), SHARES)

    def save(self, path: Path, fingerprint: str) -> None:
        """Writes beside and renames, so that a reader finds the whole table or none. About 100 kB for 30 layers."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"quantiles": self.quantiles, "path": self.path, "weights": self.weights}
        note = {"version": _VERSION, "model": fingerprint, "shares": json.dumps(SHARES), "rates": json.dumps(RATES)}
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as handle:
            pass
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, handle.name, metadata=note)
            os.replace(handle.name, path)
        except (OSError, SafetensorError):
            Path(handle.name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path, fingerprint: str, num_layers: int) -> "PruningTable":
        """Reads a table back. Raises FileNotFoundError, or CalibrationInvalid when it is not this model's."""
        try:
            with safe_open(path, "pt") as file:
                note = file.metadata() or {}
                if (note.get("version"), note.get("model")) != (_VERSION, fingerprint):
                    raise CalibrationInvalid(f"{path} was made for another model or version")
                table = cls(*(file.get_tensor(name) for name in ("quantiles", "path", "weights")))
        except SafetensorError as error:
            raise CalibrationInvalid(f"{path} is damaged: {error}") from None
        layers = (num_layers, len(SITES))
        shapes = tuple(tuple(tensor.shape) for tensor in (table.quantiles, table.path, table.weights))
        if shapes != ((*layers, len(SHARES)), (len(RATES), *layers), layers):
            raise CalibrationInvalid(f"{path} has the wrong shape")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in (table.quantiles, table.path, table.weights)):
            raise CalibrationInvalid(f"{path} is damaged: it holds what is no number")
        return table


def _between(values: Tensor, at: Tensor, grid: tuple[float, ...]) -> Tensor:
    """Linear interpolation of values [..., G], known at `grid`, at a place each: [...]."""
    places = torch.tensor(grid)
    right = torch.searchsorted(places, at.contiguous()).clamp(1, len(grid) - 1)
    left = right - 1
    way = ((at - places[left]) / (places[right] - places[left])).clamp(0, 1)
    low, high = (values.gather(-1, side.unsqueeze(-1)).squeeze(-1) for side in (left, right))
    return low + way * (high - low)
