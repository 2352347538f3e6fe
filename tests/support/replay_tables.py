"""A step table as a node might have measured it: 30 ms, 2 ms more per row, 0.5 ms per prefill token; single steps vary by 5 %."""

from controlplane.bench.replay.step_table import Levels, StepTable, single, step_table
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


def levels(*, noisy: bool = True) -> Levels:
    """Nodes that have no other level."""
    return single(table(noisy=noisy))


def two_levels() -> Levels:
    """The same in bf16, and in int4 half as long for a tenth of the quality."""
    exact = profile(noisy=False).cells
    fast = tuple(
        c.model_copy(
            update={"precision": Precision.INT4, "step_s": c.step_s / 2, "p95_s": c.p95_s / 2, "ewma_s": c.ewma_s / 2}
        )
        for c in exact
    )
    both = StepProfile(cells=(*exact, *fast))
    tables = {(p, 0.0): step_table(both, p) for p in (Precision.BF16, Precision.INT4)}
    return Levels(tables, {(Precision.BF16, 0.0): 0.0, (Precision.INT4, 0.0): 0.1}, both)
