"""How kernels are cut up on a card: a table for each card that `bench.gpu.tune` ran on, in the folder `tables`.

A card without a table takes the one of the card that is nearest to it, and the log says so: it computes the same, slower perhaps.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Self

import structlog
import torch

log = structlog.get_logger(__name__)

# Inputs from which on a product is cut up otherwise: an output is then more than one warp should hold.
WIDE = 8192
# Rows up to which attention has few programs, each with one tile or two.
FEW = 2
# What Triton's interpreter takes for a card.
_INTERPRETED = "NVIDIA H200"


@dataclass(frozen=True, slots=True)
class RowTuning:
    """One or two rows. columns: outputs at a time; stages: of them on their way; programs: per multiprocessor; ahead: of e4m3,
    cache lines of each output to ask for while the launch before still runs."""

    columns: int
    stages: int
    warps: int
    programs: int
    ahead: int = 8


@dataclass(frozen=True, slots=True)
class DenseTuning:
    """A few rows of bf16. columns: outputs of a program; depth: inputs of a step of its loop; stages: of them on their way;
    parts: that inputs are shared out over; ahead: inputs whose weights are asked for while the launch before still runs."""

    columns: int
    depth: int
    stages: int
    warps: int
    parts: int
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class AttentionTuning:
    """tile: tokens of one step of the loop, of heads of up to 128 channels."""

    tile: int
    warps: int
    stages: int


@dataclass(frozen=True, slots=True)
class Table:
    card: str
    capability: tuple[int, int]
    multiprocessors: int
    rows: dict[str, RowTuning]
    dense: dict[str, DenseTuning]
    attention: dict[str, AttentionTuning]

    def row(self, kind: str, inputs: int) -> RowTuning:
        """kind: fp8, int8 or int4."""
        return self.rows[f"{kind}, wide" if inputs > WIDE else kind]

    def dense_for(self, inputs: int, outputs: int, *, skips: bool = False) -> DenseTuning:
        kind = "many outputs" if outputs > 2 * WIDE else "many inputs" if skips or inputs > WIDE else "small"
        return self.dense[f"{kind}, skipping" if skips else kind]

    def tiles(self, *, narrow: bool, rows: int) -> AttentionTuning:
        """narrow: keys and values in e4m3."""
        kind = "fp8" if narrow else "bf16"
        return self.attention[f"{kind}, few rows" if rows <= FEW else kind]

    @classmethod
    def from_json(cls, text: str) -> Self:
        told: dict[str, Any] = json.loads(text)
        return cls(
            card=told["card"],
            capability=(told["capability"][0], told["capability"][1]),
            multiprocessors=told["multiprocessors"],
            rows={name: RowTuning(**given) for name, given in told["rows"].items()},
            dense={name: DenseTuning(**given) for name, given in told["dense"].items()},
            attention={name: AttentionTuning(**given) for name, given in told["attention"].items()},
        )


def multiprocessors() -> int:
    if not torch.cuda.is_available():
        return 4
    return torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count


def here() -> Table:
    """Of the current device."""
    return _of(torch.cuda.current_device() if torch.cuda.is_available() else -1)


@functools.cache
def _of(device: int) -> Table:
    if device < 0:
        return nearest(every(), _INTERPRETED, (9, 0), 132)
    found = torch.cuda.get_device_properties(device)
    table = nearest(every(), found.name, (found.major, found.minor), found.multi_processor_count)
    if table.card != found.name:
        log.info("gpu_kernels_cut_up_for_another_card", card=found.name, table=table.card)
    return table


def every() -> list[Table]:
    folder = resources.files("inference_node.kernels.gpu") / "tables"
    texts = sorted((file.name, file.read_text()) for file in folder.iterdir() if file.name.endswith(".json"))
    return [Table.from_json(text) for _, text in texts]


def nearest(tables: list[Table], card: str, capability: tuple[int, int], processors: int) -> Table:
    """Of this card, else of its architecture, else of the next one; of several that with the nearest number of processors."""

    def distance(table: Table) -> tuple[bool, int, int, int]:
        major, minor = (mine - theirs for mine, theirs in zip(capability, table.capability, strict=True))
        return table.card != card, abs(major), abs(minor), abs(processors - table.multiprocessors)

    return min(tables, key=distance)
