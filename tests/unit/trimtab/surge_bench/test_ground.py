"""From loops and losses to objectives, budget, load, and what a reader must be told."""

import dataclasses

import pytest

from inference_node.contract.settings import EngineSettings, Precision
from trimtab.errors import CommandError
from trimtab.surge_bench.capacity import Loop
from trimtab.surge_bench.ground import Ground
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.options import SurgeOptions

BF16, INT8, INT4 = (Level(precision) for precision in (Precision.BF16, Precision.INT8, Precision.INT4))
LOSSES = {"bf16": 0.0, "int8": 0.002, "int4": 0.06}
LOOPS = {
    BF16: [Loop(1, 1.0, 0.030, 0.1, 0.15, 9, 0), Loop(8, 2.0, 0.08, 0.2, 0.3, 9, 0)],
    INT8: [Loop(1, 2.0, 0.010, 0.1, 0.15, 9, 0), Loop(8, 4.0, 0.03, 0.2, 0.3, 9, 0)],
    INT4: [Loop(1, 3.0, 0.008, 0.1, 0.15, 9, 0), Loop(8, 8.0, 0.02, 0.2, 0.3, 9, 0)],
}
DEFAULT = EngineSettings(max_batch_size=4)


def _ground(**options: float) -> Ground:
    return Ground.of(LOOPS, LOSSES, dataclasses.replace(SurgeOptions(), **options), DEFAULT)  # type: ignore[arg-type]


def test_the_rules_from_end_to_end() -> None:
    ground = _ground()
    assert (ground.budget.fastest, ground.kept, ground.demand.best) == (INT4, (BF16, INT8), INT8)
    assert (ground.objectives.itl_s, ground.objectives.ttft_s) == pytest.approx((0.020, 0.5))
    assert list(ground.capacities.values()) == [0.0, 2.0, 8.0]
    assert (ground.demand.rates.calm_rps, ground.demand.rates.surge_rps) == pytest.approx((1.0, 4.0))
    assert [row["level"] for row in ground.plain()["capacities"]] == ["bf16", "int8", "int4"]


def test_a_default_that_never_keeps_the_objectives_is_told_of() -> None:
    assert any("bf16, which the fleet starts with" in note for note in _ground().notes)
    assert _ground(itl_slo_ms=40).notes == ()


def test_what_was_given_stands() -> None:
    ground = _ground(itl_slo_ms=100, ttft_slo_s=2, budget=0.001, calm=0.25, surge=3)
    assert (ground.objectives.itl_s, ground.objectives.ttft_s, ground.kept) == (0.1, 2, (BF16,))
    assert (ground.demand.rates.calm_rps, ground.demand.rates.surge_rps) == (0.5, 6)


def test_the_controller_is_not_asked_for_more_than_its_levels_carry() -> None:
    """Where int8 is fastest, int4 loses more than any answer may, and does not set the load."""
    loops = {**LOOPS, INT4: [Loop(1, 3.0, 0.008, 0.1, 0.15, 9, 0)]}
    ground = Ground.of(loops, LOSSES, SurgeOptions(itl_slo_ms=100), DEFAULT)
    assert (ground.budget.fastest, ground.kept) == (INT8, (BF16,))
    assert ground.demand.rates.surge_rps == pytest.approx((2.0 * 4.0) ** 0.5)


def test_disturbed_loops_and_near_ties_are_told_of() -> None:
    loops = {**LOOPS, INT8: [dataclasses.replace(loop, rate_rps=7.9, disturbed=True) for loop in LOOPS[INT8]]}
    notes = " ".join(Ground.of(loops, LOSSES, SurgeOptions(), DEFAULT).notes)
    assert "disturbed the measurement of int8 at 1, 8 clients" in notes
    assert "int8 is about as fast as int4" in notes


def test_without_a_level_that_keeps_the_budget_there_is_no_fixed_choice() -> None:
    with pytest.raises(CommandError, match="let --levels hold bf16"):
        Ground.of({INT4: LOOPS[INT4]}, LOSSES, SurgeOptions(), DEFAULT)
