"""The step model: what it learns of a simulated machine, how it follows one that changes, and what it tells others."""

import itertools
import statistics

import pytest

from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepProfile, StepShape
from inference_node.engine.kept_steps import Identity
from inference_node.engine.step_fit import Measured
from inference_node.engine.step_model import StepModel, shape_of
from inference_node.engine.step_probe import CHECKS, STEPS
from inference_node.scheduling.batch import ScheduledBatch, ScheduledRow
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.scheduling.sequence import Sequence
from tests.support.simulated_steps import SimulatedMachine

IDENTITY = Identity("machine", "model", "1")
BF16, INT8 = EngineSettings(precision=Precision.BF16), EngineSettings(precision=Precision.INT8)


def probed(machine: SimulatedMachine, rounds: int = 3) -> list[Measured]:
    return [Measured(step.shape, machine.step_s(step.shape)) for _ in range(rounds) for step in STEPS]


def begun(machine: SimulatedMachine, settings: EngineSettings = BF16) -> StepModel:
    model = StepModel(IDENTITY, settings)
    model.begin(probed(machine))
    return model


def serve(model: StepModel, machine: SimulatedMachine, steps: int) -> list[float]:
    """Relative errors of predictions against what the step would take without noise, each made before the step."""
    errors = []
    for number, shape in enumerate(itertools.islice(machine.traffic(), steps)):
        expected, ideal = model.predict(shape), machine.ideal_s(shape)
        if expected is not None:
            errors.append(abs(expected - ideal) / ideal)
        model.observe(shape, machine.step_s(shape))
        if number % 64 == 0:
            model.refit()
    return errors


def quantile95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


class TestPredictions:
    def test_from_the_probe_alone_are_near(self) -> None:
        machine = SimulatedMachine()
        model = begun(machine)
        shapes = list(itertools.islice(machine.traffic(), 400))
        errors = [abs((model.predict(shape) or 0) / machine.ideal_s(shape) - 1) for shape in shapes]
        assert statistics.median(errors) < 0.08

    @pytest.mark.parametrize("seed", range(4))
    def test_of_steps_never_seen_are_within_5_and_10_per_cent(self, seed: int) -> None:
        machine = SimulatedMachine(seed=seed)
        model = begun(machine)
        serve(model, machine, 600)
        errors = serve(model, machine, 600)
        assert statistics.median(errors) <= 0.05
        assert quantile95(errors) <= 0.10

    def test_follow_a_machine_that_becomes_half_as_fast(self) -> None:
        machine = SimulatedMachine()
        model = begun(machine)
        serve(model, machine, 200)
        machine.slowdown = 2.0
        serve(model, machine, 60)
        errors = serve(model, machine, 200)
        assert statistics.median(errors) <= 0.05
        # also for a step that has not been seen since
        unseen = StepShape(decode_rows=32, context_tokens=32 * 60)
        assert model.predict(unseen) == pytest.approx(machine.ideal_s(unseen), rel=0.12)

    def test_do_not_follow_single_pauses(self) -> None:
        machine = SimulatedMachine(noise=0.0)
        model = begun(machine)
        shape = StepShape(decode_rows=8, context_tokens=8 * 129)
        before = model.predict(shape)
        model.observe(shape, 50 * machine.ideal_s(shape))
        assert before is not None and model.predict(shape) == pytest.approx(before, rel=0.1)

    def test_do_not_fall_as_steps_get_larger(self) -> None:
        model = begun(SimulatedMachine(noise=0.1))
        times = [model.snapshot().fits[0].step_s(StepShape(rows, context_tokens=100 * rows)) for rows in range(1, 65)]
        assert times == sorted(times)

    def test_are_none_while_nothing_is_known(self) -> None:
        assert StepModel().predict_s(1, 0, 100) is None

    def test_three_numbers_tell_what_the_shape_does(self) -> None:
        model = begun(SimulatedMachine())
        assert model.predict_s(8, 0, 800) == model.predict(StepShape(8, context_tokens=800))
        assert model.predict_s(0, 256, 0) == model.predict(StepShape(0, 256, 1, 0, 256 * 128))
        assert model.predict_s(0, 64, 448) == model.predict(StepShape(0, 64, 1, 0, 64 * 448 + 64 * 32))

    def test_grow_with_each_of_the_three(self) -> None:
        """The scheduler searches by halving."""
        model = begun(SimulatedMachine(noise=0.1))
        serve(model, SimulatedMachine(noise=0.1), 300)
        for way in ((1, 0, 0), (0, 8, 0), (0, 0, 100)):
            times = [model.predict_s(4 + n * way[0], 64 + n * way[1], 400 + n * way[2]) or 0 for n in range(60)]
            assert times == sorted(times)


class TestOtherSettings:
    def test_begin_with_what_is_known_and_find_their_own_level(self) -> None:
        slow, fast = SimulatedMachine(), SimulatedMachine(slowdown=0.5)
        model = begun(slow)
        serve(model, slow, 200)
        model.use(INT8)
        shape = StepShape(4, context_tokens=400)
        assert model.predict(shape) == pytest.approx(slow.ideal_s(shape), rel=0.1)
        serve(model, fast, 30)
        assert model.predict(shape) == pytest.approx(fast.ideal_s(shape), rel=0.1)

    def test_what_is_only_borrowed_is_told_to_nobody(self) -> None:
        model = begun(SimulatedMachine())
        model.use(INT8)
        assert [fit.precision for fit in model.snapshot().fits] == [Precision.BF16]

    def test_own_decode_steps_leave_the_price_of_prefill_as_it_was(self) -> None:
        machine = SimulatedMachine()
        model = begun(machine)
        model.use(INT8)
        for context in range(100, 300):
            shape = StepShape(4, context_tokens=4 * context)
            model.observe(shape, machine.step_s(shape))
        assert model.refit()
        prefill = StepShape(0, 512, 1, 0, 512 * 256)
        assert model.predict(prefill) == pytest.approx(machine.ideal_s(prefill), rel=0.25)

    def test_pruning_levels_are_kept_apart(self) -> None:
        model = begun(SimulatedMachine())
        model.use(BF16.replace(pruning_threshold=0.25))
        model.observe(StepShape(1, context_tokens=9), 0.004)
        assert {cell.pruning for cell in model.snapshot().cells} == {0.0, 0.3}


class TestTable:
    def test_a_step_counts_for_the_smallest_cell_it_fits_in(self) -> None:
        model = StepModel()
        for rows, tokens, context in ((3, 0, 10), (4, 0, 256), (5, 0, 257), (0, 65, 0), (1, 9000, 1)):
            model.observe(StepShape(rows, tokens, context_tokens=context), 0.1)
        cells = {(c.decode_rows, c.prefill_tokens, c.context_tokens): c.samples for c in model.snapshot().cells}
        assert cells == {(4, 0, 256): 2, (8, 0, 1024): 1, (0, 128, 0): 1, (1, 8192, 256): 1}

    def test_the_median_forgets_old_steps_and_ignores_a_spike(self) -> None:
        model = StepModel()
        for step_s in [0.5] * 32 + [0.1] * 20 + [9.0]:
            model.observe(StepShape(1), step_s)
        (cell,) = model.snapshot().cells
        assert (cell.step_s, cell.samples) == (0.1, 53)
        assert 0.1 < cell.p95_s <= 9.0

    def test_a_clock_that_stood_still_is_no_measurement(self) -> None:
        model = StepModel()
        model.observe(StepShape(1), 0.0)
        assert model.snapshot().cells == ()

    def test_says_how_well_it_predicted_what_was_served(self) -> None:
        machine = SimulatedMachine()
        model = begun(machine)
        assert model.error() is None  # a probe is no test of itself
        serve(model, machine, 300)
        median, p95 = model.error() or (1.0, 1.0)
        (fit,) = model.snapshot().fits
        assert (fit.error_median, fit.error_p95, fit.error_samples) == (median, p95, 300)
        assert median < 0.05 < p95 + 0.05

    def test_survives_json(self) -> None:
        profile = begun(SimulatedMachine()).snapshot()
        assert StepProfile.model_validate_json(profile.model_dump_json()) == profile
        assert (profile.hardware, profile.model, profile.engine_version, profile.epoch) == ("machine", "model", "1", 1)

    def test_of_an_older_node_is_understood(self) -> None:
        cell = {"precision": "bf16", "decode_rows": 1, "prefill_tokens": 0, "step_s": 0.01, "samples": 3}
        profile = StepProfile.model_validate({"cells": [cell]})
        assert (profile.fits, profile.cells[0].pruning) == ((), 0.0)


class TestRestart:
    def test_knows_what_was_kept(self) -> None:
        machine = SimulatedMachine()
        model = begun(machine)
        serve(model, machine, 300)
        again = StepModel(IDENTITY, BF16)
        assert again.restore(model.keep())
        assert again.recognise([Measured(step.shape, machine.step_s(step.shape)) for step in CHECKS])
        shape = StepShape(6, context_tokens=1200)
        assert again.predict(shape) == pytest.approx(machine.ideal_s(shape), rel=0.07)

    def test_takes_the_level_from_the_check(self) -> None:
        machine = SimulatedMachine(noise=0.0)
        kept = begun(machine).keep()
        machine.slowdown = 2.0
        again = StepModel(IDENTITY, BF16)
        again.restore(kept)
        assert again.recognise([Measured(step.shape, machine.ideal_s(step.shape)) for step in CHECKS])
        shape = StepShape(8, context_tokens=1000)
        assert again.predict(shape) == pytest.approx(machine.ideal_s(shape), rel=0.1)

    def test_forgets_what_has_another_shape(self) -> None:
        kept = begun(SimulatedMachine()).keep()
        other = SimulatedMachine(weights_s=0.001, row_s=0.003)
        again = StepModel(IDENTITY, BF16)
        again.restore(kept)
        assert not again.recognise([Measured(step.shape, other.step_s(step.shape)) for step in CHECKS])
        assert again.predict(StepShape(1)) is None
        assert again.snapshot().cells == ()

    def test_of_other_settings_is_no_use(self) -> None:
        kept = begun(SimulatedMachine()).keep()
        assert not StepModel(IDENTITY, INT8).restore(kept)


class TestShapeOf:
    def test_counts_rows_context_and_pairs(self) -> None:
        def row(start: int, count: int, *, is_decode: bool) -> ScheduledRow:
            sequence = Sequence("r", [0] * (start + count), start + count, SamplingParams())
            return ScheduledRow(sequence, start, count, True, is_decode)

        rows = (row(99, 1, is_decode=True), row(49, 1, is_decode=True), row(100, 40, is_decode=False))
        shape = shape_of(ScheduledBatch(rows))
        assert shape == StepShape(2, 40, 1, 148, 40 * 100 + 800)
