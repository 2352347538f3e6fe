"""Windows learned from a machine whose law is known: when they count, and how near predictions come."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import fmean

import pytest

from controlplane.decisions.decision import StepTime, Workload
from controlplane.decisions.node_fits import offered_step_times
from controlplane.decisions.step_memory.learning import Serving, learn_step_times
from controlplane.decisions.step_memory.levels import Level, PoolMemory, machine_of
from controlplane.decisions.step_memory.memory import Memory, ModelState
from controlplane.decisions.step_time import fit_step_times
from controlplane.telemetry.observation import Observation, Quality, missing
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepArithmetic, StepProfile, StepSample
from tests.support.step_law import ASKED, PROFILE, SETTINGS, START, Machine

LOAD = Workload(64.0, 64.0)
BF16, INT8 = Precision.BF16, Precision.INT8


def level(precision: Precision, profile: StepProfile = PROFILE) -> Level:
    return Level.of(machine_of([profile]), StepArithmetic(precision=precision))


def error(steps: Sequence[StepTime], machine: Machine, precision: Precision) -> float:
    """Mean relative error over batches that are mostly unlike those served."""
    step = next(each for each in steps if each.precision is precision)
    return fmean(abs(step.at(rows, prefill) / machine.truth_s(precision, rows, prefill) - 1) for rows, prefill in ASKED)


@dataclass
class Site:
    """`windows` are those since the precision in force is. `with_memory` off is what a controller did that had none."""

    machine: Machine = field(default_factory=Machine)
    profile: StepProfile = PROFILE
    memory: PoolMemory = field(default_factory=PoolMemory)
    windows: list[Observation] = field(default_factory=list)
    newest_start: datetime | None = None
    steps: tuple[StepTime, ...] = ()

    def serve(self, count: int, *, agreed: bool = True) -> None:
        for _ in range(count):
            self.learn(self.machine.window(), agreed=agreed)

    def learn(self, seen: Observation, *, agreed: bool = True) -> None:
        self.windows.append(seen)
        wanted = self.machine.settings
        serving = Serving([self.profile], wanted, StepArithmetic.of(wanted) if agreed else None, self.newest_start)
        found = learn_step_times(self.memory, serving, self.windows[-80:], LOAD, seen.window_end)
        self.memory, self.steps = found.memory, found.step_times

    def forgetful(self) -> tuple[StepTime, ...]:
        precision = self.machine.settings.precision
        offered = offered_step_times([self.profile], self.machine.settings, LOAD)
        return fit_step_times([], self.windows[-80:], precision, offered)

    def switch(self, precision: Precision) -> None:
        self.machine.switch(precision)
        self.windows.clear()

    def of(self, precision: Precision) -> Memory:
        return self.memory.levels[level(precision, self.profile)]


class TestPredictsBetterThanWithoutMemory:
    """Base 1.3, rows 0.9 and prefill 1.6 times what the node measured, 5 % noise: docs/adr/0044 has the figures."""

    @pytest.mark.parametrize("seed", range(5))
    def test_of_the_level_in_force(self, seed: int) -> None:
        site = Site(Machine(seed=seed))
        site.serve(60)
        assert error(site.steps, site.machine, BF16) < 0.5 * error(site.forgetful(), site.machine, BF16)
        assert error(site.steps, site.machine, BF16) < 0.06

    @pytest.mark.parametrize("seed", range(5))
    def test_of_a_level_that_was_left_and_after_it_came_back(self, seed: int) -> None:
        site = Site(Machine(seed=seed))
        site.serve(60)
        site.switch(INT8)
        site.serve(60)
        assert error(site.steps, site.machine, BF16) < 0.5 * error(site.forgetful(), site.machine, BF16)
        site.switch(BF16)
        site.serve(3)
        assert error(site.steps, site.machine, BF16) < 0.06
        assert error(site.steps, site.machine, INT8) < 0.08

    def test_before_the_first_window_of_a_level_that_comes_back(self) -> None:
        site = Site()
        site.serve(60)
        site.switch(INT8)
        site.serve(60)
        site.switch(BF16)
        site.learn(missing(START + timedelta(seconds=site.machine.now_s + 15), 15.0))
        assert error(site.steps, site.machine, BF16) < 0.06

    def test_a_level_never_served_is_taken_as_before(self) -> None:
        site = Site()
        site.serve(40)
        found, before = (
            next(step for step in steps if step.precision is INT8) for steps in (site.steps, site.forgetful())
        )
        assert found == before

    def test_a_busy_machine_slows_what_is_remembered_too(self) -> None:
        site = Site()
        site.serve(60)
        site.switch(INT8)
        site.serve(60)
        site.machine.slower = 1.4
        site.serve(12)
        assert error(site.steps, site.machine, BF16) < 0.1

    def test_its_error_is_what_was_wrong_before_each_window_came(self) -> None:
        site = Site()
        site.serve(60)
        step = next(step for step in site.steps if step.precision is BF16)
        assert step.error_ratio == site.of(BF16).error
        assert 0.02 < step.error_ratio < 0.08  # the noise of windows
        site.machine.slower = 2.0
        site.serve(4)
        assert next(step for step in site.steps if step.precision is BF16).error_ratio > 0.15  # nothing is relaxed

    def test_days_later_it_counts_less(self) -> None:
        site = Site()
        site.serve(60)
        site.switch(INT8)
        site.serve(60)
        soon = error(site.steps, site.machine, BF16)
        site.machine.now_s += 5 * 86_400
        site.serve(1)
        level_only = error(site.forgetful(), site.machine, BF16)
        assert soon < error(site.steps, site.machine, BF16) < level_only + 0.05


class TestWhatIsLearnedFrom:
    def test_not_while_the_nodes_differ(self) -> None:
        site = Site()
        site.serve(20, agreed=False)
        assert site.memory == PoolMemory()
        assert site.steps == site.forgetful()

    def test_not_just_after_a_change(self) -> None:
        site = Site()
        site.serve(3)  # the first, and one that began within 30 s of its end
        assert site.of(BF16).windows == 0
        site.serve(1)
        assert site.of(BF16).windows == 1

    def test_not_just_after_a_node_started(self) -> None:
        site = Site()
        site.serve(20)
        known = site.of(BF16)
        site.newest_start = site.windows[-1].window_end
        site.serve(8)  # the last of them began 105 s after
        assert site.of(BF16) == known
        site.serve(1)
        assert site.of(BF16).windows == known.windows + 1

    def test_not_from_windows_that_cannot_be_trusted(self) -> None:
        site = Site()
        site.serve(20)
        known = site.of(BF16)
        site.learn(replace(site.machine.window(), quality=Quality.STALE))
        site.learn(replace(site.machine.window(), step_mean_s=None))
        assert site.of(BF16) == known

    def test_a_change_ends_what_was_in_force(self) -> None:
        site = Site()
        site.serve(20)
        site.switch(INT8)
        site.serve(1)
        assert site.of(BF16).in_force_since is None
        assert site.of(INT8).in_force_since == site.windows[-1].window_end

    def test_what_the_nodes_have_already_while_the_pool_is_not_said_to(self) -> None:
        """A rollout to int8 has reached all nodes and is being watched: what they serve is int8's."""
        site = Site()
        site.serve(20)
        for _ in range(20):
            seen = site.machine.window()
            serving = Serving([PROFILE], SETTINGS, StepArithmetic(precision=INT8))
            site.memory = learn_step_times(site.memory, serving, [seen], LOAD, seen.window_end).memory
        assert site.of(INT8).windows == 17

    def test_other_keys_and_values_or_pruning_are_a_level_of_their_own(self) -> None:
        site = Site()
        pruned = StepArithmetic(precision=BF16, pruning=0.3)
        fits = (*PROFILE.fits, PROFILE.fits[0].model_copy(update={"pruning": 0.3}))
        profile = PROFILE.model_copy(update={"fits": fits})
        for _ in range(20):
            seen = site.machine.window()
            serving = Serving([profile], SETTINGS, pruned)
            site.memory = learn_step_times(site.memory, serving, [seen], LOAD, seen.window_end).memory
        assert {(each.precision, each.pruning) for each in site.memory.levels} == {(BF16, 0.3)}

    def test_other_machines_are_a_level_of_their_own(self) -> None:
        site = Site()
        site.serve(40)
        site.profile = PROFILE.model_copy(update={"hardware": "another cpu"})
        site.serve(5)
        assert (site.of(BF16).state, len(site.memory.levels)) == (ModelState.LEARNING, 2)

    def test_nothing_where_the_nodes_expect_nothing(self) -> None:
        site = Site(profile=StepProfile(hardware="cpu"))
        site.serve(40)
        assert site.memory == PoolMemory()
        assert {step.precision for step in site.steps} == {BF16}  # of varied windows alone, as ever


class TestNodesThatOfferAProbeOnly:
    GRID = tuple(
        StepSample(
            precision=BF16, decode_rows=rows, prefill_tokens=prefill,
            step_s=0.020 + 0.0012 * rows + 0.0002 * prefill, samples=5,
        )
        for rows, prefill in ((1, 0), (4, 0), (16, 0), (32, 0), (1, 64), (4, 128))
    )  # fmt: skip

    def test_are_remembered_too(self) -> None:
        site = Site(profile=StepProfile(cells=self.GRID, hardware="cpu"))
        site.serve(60)
        assert site.of(BF16).state is ModelState.READY
        assert error(site.steps, site.machine, BF16) < 0.06
