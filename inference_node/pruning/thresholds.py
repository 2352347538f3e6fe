"""Cut-offs below which activations count as zero, looked up from calibrated quantiles.

Method: magnitude pruning of the inputs of each matrix, Liu et al., "Training-Free Activation Sparsity in Large Language Models"
(TEAL, 2024), section 4, with the same share at every site and layer.
"""

import bisect
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inference_node.errors import Invalid

# Shares at which quantiles are kept; between two of them the cut-off is interpolated.
SHARES = tuple(i / 50 for i in range(41))
_VERSION = 1


class CalibrationInvalid(Invalid):
    """A file of cut-offs is damaged or was made for another model."""


class Site(StrEnum):
    """Which activations: what goes into qkv, into the attention's output matrix, into gate and up, into down."""

    ATTENTION_IN = "attention_in"
    ATTENTION_OUT = "attention_out"
    MLP_IN = "mlp_in"
    MLP_MIDDLE = "mlp_middle"


@dataclass(frozen=True, slots=True)
class LayerCutoffs:
    """Of one layer: entries of at most this magnitude are dropped. In the activations' own units."""

    attention_in: float
    attention_out: float
    mlp_in: float
    mlp_middle: float


@dataclass(frozen=True, slots=True)
class PruningTable:
    """quantiles[site][layer][i] is the magnitude below which the share SHARES[i] of that site's entries lay at calibration."""

    quantiles: dict[Site, tuple[tuple[float, ...], ...]]

    @property
    def num_layers(self) -> int:
        return len(self.quantiles[Site.MLP_MIDDLE])

    def cutoffs(self, threshold: float) -> tuple[LayerCutoffs, ...]:
        """Cut-offs per layer for dropping `threshold` (0 to 0.8) of the entries."""
        assert 0.0 <= threshold <= SHARES[-1]
        return tuple(
            LayerCutoffs(*(_interpolate(self.quantiles[site][layer], threshold) for site in Site))
            for layer in range(self.num_layers)
        )

    def save(self, path: Path, fingerprint: str) -> None:
        """Writes beside and renames, so that a reader finds the whole table or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {"version": _VERSION, "model": fingerprint, "quantiles": {s.value: q for s, q in self.quantiles.items()}}
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as handle:
            json.dump(body, handle)
        os.replace(handle.name, path)

    @classmethod
    def load(cls, path: Path, fingerprint: str, num_layers: int) -> "PruningTable":
        """Reads a table back. Raises FileNotFoundError, or CalibrationInvalid when it is not this model's."""
        try:
            body = json.loads(path.read_text())
            if body["version"] != _VERSION or body["model"] != fingerprint:
                raise CalibrationInvalid(f"{path} was made for another model or version")
            quantiles = {site: tuple(tuple(map(float, row)) for row in body["quantiles"][site.value]) for site in Site}
        except (ValueError, KeyError, TypeError) as error:
            raise CalibrationInvalid(f"{path} is damaged: {error}") from None
        if any(len(rows) != num_layers or any(len(r) != len(SHARES) for r in rows) for rows in quantiles.values()):
            raise CalibrationInvalid(f"{path} has the wrong shape")
        return cls(quantiles)


def _interpolate(values: Sequence[float], share: float) -> float:
    right = bisect.bisect_left(SHARES, share)
    if right == 0:
        return values[0]
    left = right - 1
    way = (share - SHARES[left]) / (SHARES[right] - SHARES[left])
    return values[left] + way * (values[right] - values[left])
