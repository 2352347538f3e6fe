"""A step table as a node might have measured it: 30 ms, 2 ms more per row, 0.5 ms per prefill token; single steps vary by 5 %."""

from controlplane.bench.replay.step_table import StepTable, step_table
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepProfile, StepSample


def cell(rows: int, tokens: int, *, noisy: bool = True) -> StepSample:
    seconds = 0.030 + 0.002 * rows + 0.0005 * tokens
    return StepSample(
        precision=Precision.BF16,
        decode_rows=rows,
        prefill_tokens=tokens,
        step_s=seconds,
        p95_s=seconds * 1.09 if noisy else seconds,
        ewma_s=seconds * (1.02 if noisy else 1.0),
        samples=20,
    )


def profile(*, noisy: bool = True) -> StepProfile:
    places = [(1, 0), (8, 0), (32, 0), (64, 0), (0, 64), (0, 1024), (64, 1024), (8, 256)]
    return StepProfile(cells=tuple(cell(rows, tokens, noisy=noisy) for rows, tokens in places))


def table(*, noisy: bool = True) -> StepTable:
    return step_table(profile(noisy=noisy), Precision.BF16)
