"""The GPU's forward against transformers' own, for every family, in every format: chunks, then single tokens."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.model.backend import describe
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.gpu.device import here
from inference_node.model.gpu.forward import Cuts, StepTensors, Workspace, forward
from inference_node.model.gpu.kv_cache import GpuKvCache
from inference_node.model.gpu.store import GpuStore, build, convert
from inference_node.model.spec import ModelSpec
from tests.support.models import SHAPES, oracle_logits, save_tiny_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
]
BLOCK, TILE = 16, 16
TOKENS = [(7 * i * i + 3 * i) % 250 for i in range(60)]
# Where there is no GPU one shape of each family is enough: the interpreter takes seconds for each.
SOME = ["llama-gqa", "llama-biases", "qwen3", "glm4", "gemma3-text-softcap"]
TRIED = sorted(SHAPES) if torch.cuda.is_available() else SOME


def int32(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=here())


class Steps:
    """Single steps of one sequence whose blocks lie in no order."""

    def __init__(self, spec: ModelSpec, store: GpuStore) -> None:
        self.spec, self.store = spec, store
        self.kv = GpuKvCache(spec, torch.bfloat16, num_blocks=5, block_size=BLOCK)
        self.work, self.cuts = Workspace(spec), Cuts.none(spec)
        self.tables = int32([3, 0, 4, 1, 2]).view(1, -1)

    def run(self, tokens: list[int], start: int, line: int = 0) -> Tensor:
        count = len(tokens)
        tiles = None
        if count > 1:
            most = min(TILE, count)
            tiles = int32([0])  # replaced below
            firsts = range(0, count, most)
            tiles = torch.stack(
                [int32([at, min(most, count - at), start + at, line]) for at in firsts], dim=1
            ).contiguous()
        step = StepTensors(
            tokens=int32(tokens),
            sources=int32([-1] * count),
            positions=int32(list(range(start, start + count))),
            runs=int32([line] * count),
            real=int32([count]),
            tables=self.tables,
            tiles=tiles,
            sampled=None,
        )
        return self.forward(step)

    def forward(self, step: StepTensors) -> Tensor:
        return forward(self.spec, step, int32([0]), self.store, self.kv, self.cuts, self.work)


def load(folder: Path, shape: str) -> tuple[ModelSpec, GpuStore, Tensor]:
    save_tiny_model(folder, shape, dtype=torch.bfloat16)
    spec = describe(folder)
    return spec, build(Checkpoint.open(folder), spec, Precision.BF16), oracle_logits(folder, TOKENS, torch.float32)


def far(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", TRIED)
def test_bf16_equals_transformers(tmp_path: Path, shape: str) -> None:
    spec, store, expected = load(tmp_path, shape)
    steps = Steps(spec, store)
    found = [steps.run(TOKENS[:20], 0), steps.run(TOKENS[20:56], 20)]
    found += [steps.run([token], 56 + index) for index, token in enumerate(TOKENS[56:])]
    assert far(torch.cat(found), expected) < 0.03


@pytest.mark.parametrize("rows", [2, 4])
def test_a_sequence_is_computed_beside_others_as_alone(tmp_path: Path, rows: int) -> None:
    """One row of padding among them, as captured steps have: at position 0 of a block that is nobody's."""
    spec, store, _ = load(tmp_path, "llama-gqa")
    steps = Steps(spec, store)
    steps.kv = GpuKvCache(spec, torch.bfloat16, num_blocks=3 * rows + 1, block_size=BLOCK)
    lines = [[3 * row + 1, 3 * row, 3 * row + 2] for row in range(rows - 1)] + [[3 * rows] * 3]
    steps.tables = int32([block for line in lines for block in line]).view(rows, 3)
    at = [20 + 7 * row for row in range(rows - 1)] + [0]
    for row in range(rows - 1):
        steps.run(TOKENS[: at[row]], 0, row)
    alone = torch.cat([steps.run([TOKENS[at[row]]], at[row], row) for row in range(rows - 1)])
    for page in steps.kv.pages:
        # What a step writes must be its own doing.
        for row in range(rows - 1):
            page[lines[row][at[row] // BLOCK], :, :, at[row] % BLOCK] = 7.0
    together = steps.forward(
        StepTensors(
            int32([TOKENS[place] for place in at]), int32([-1] * rows), int32(at), int32(list(range(rows))),
            int32([rows - 1]), steps.tables, None, None,
        )
    )  # fmt: skip
    assert far(together[: rows - 1], alone.cpu()) < 0.02


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8, Precision.INT4])
def test_narrow_formats_are_near(tmp_path: Path, precision: Precision) -> None:
    if precision is Precision.FP8 and not torch.cuda.is_available():
        pytest.skip("no e4m3 products on this processor")
    spec, exact, expected = load(tmp_path, "llama-gqa")
    steps = Steps(spec, convert(exact, precision))
    found = torch.cat([steps.run(TOKENS[:56], 0), *(steps.run([TOKENS[at]], at) for at in range(56, 60))])
    assert far(found, expected) < {Precision.FP8: 0.25, Precision.INT8: 0.06, Precision.INT4: 0.6}[precision]


def test_a_cut_off_of_zero_changes_nothing_and_one_above_all_drops_all(tmp_path: Path) -> None:
    spec, store, expected = load(tmp_path, "llama-gqa")
    steps = Steps(spec, store)
    assert far(steps.run(TOKENS, 0), expected) < 0.03
    assert int(steps.cuts.kept[0]) >= 0.98 * len(TOKENS) * spec.hidden_size
    steps.cuts.taus[:-1].fill_(1e9)
    steps.cuts.kept.zero_()
    steps.run(TOKENS, 0)
    assert int(steps.cuts.kept[:-1].sum()) == 0
