"""What the runner tells the device of sequences that it computes ahead; without a device."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from inference_node.model.gpu.runner import GpuRunner, _Piece
from inference_node.model.sampler import SampleRequest
from inference_node.scheduling.sampling_params import SamplingParams


@dataclass(eq=False)
class Answering:
    """Of a sequence, what computing ahead looks at."""

    block_table: list[int]
    sampling: SamplingParams
    num_generated: int = 1


class Tables:
    def __init__(self) -> None:
        self.written: dict[int, list[int]] = {}

    def write(self, line: int, blocks: list[int]) -> None:
        self.written[line] = list(blocks)


def test_a_block_that_a_sequence_was_given_since_is_known_before_it_is_computed_ahead() -> None:
    params = SamplingParams(temperature=0.0, max_tokens=9)
    sequence = Answering([7, 3], params)
    row = SimpleNamespace(sequence=sequence, start=3, count=1, samples=True)
    tables = Tables()
    launched: Any = SimpleNamespace(first=0)
    runner: Any = GpuRunner.__new__(GpuRunner)
    runner.looks_ahead, runner._max_model_len = True, 64
    runner._form, runner.pool = SimpleNamespace(kv=SimpleNamespace(block_size=4)), SimpleNamespace(tables=tables)
    runner._lines, runner._start = {sequence: 5}, lambda runs: runs
    batch: Any = SimpleNamespace(rows=[row])
    piece = _Piece(launched, (0,), {})
    runner._look_ahead(batch, [SampleRequest(params, [1], 0)], [piece])
    (ahead,) = runner._ahead.launched
    assert (ahead.start, ahead.line) == (4, 5)
    assert tables.written == {5: [7, 3]}
