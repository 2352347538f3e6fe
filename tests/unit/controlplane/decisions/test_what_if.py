"""The what-if says what `decide()` says, and how far it can be relied on."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.decisions.checks import CheckState
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs, NodeFacts, Workload
from controlplane.decisions.node_fits import offered_step_times
from controlplane.decisions.policy import CertifiedVariant, Policy, Quality
from controlplane.decisions.what_if import Answer, Outlook, Question, what_if
from controlplane.telemetry.observation import missing
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepFit, StepProfile
from tests.support.decision_inputs import CALM_RPS, THREAT_RPS, decision_inputs
from tests.support.registrations import registration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAPABILITIES = registration().capabilities
FIT = StepFit(
    precision=Precision.BF16,
    base_s=0.010,
    curve=((16, 0.0), (512, 0.1984)),
    decode_row_s=0.0002,
    prefill_row_s=0.001,
    context_token_s=1e-5,
    prefill_pair_s=1e-7,
    samples=100,
    error_median=0.02,
)


def threatened(**changes: object) -> DecisionInputs:
    known = decision_inputs(NOW, THREAT_RPS)
    policy = Policy(
        quality=Quality(
            certified=(
                CertifiedVariant(
                    precision=Precision.BF16, pruning_threshold=0.3, quality_loss_ratio=0.004, step_time_ratio=0.8
                ),
            )
        )
    )
    nodes = (NodeFacts("n", "n", True, CAPABILITIES),)
    return replace(known, policy=policy, nodes=nodes, **changes)  # type: ignore[arg-type]  # whatever fields a test names


def answered(inputs: DecisionInputs, settings: EngineSettings | None = None, **load: float) -> Answer:
    found = what_if(inputs, (), Question(settings or inputs.settings, **load))
    assert isinstance(found, Answer), found
    return found


def then(inputs: DecisionInputs, **knobs: object) -> Outlook:
    found = answered(inputs, inputs.settings.replace(**knobs)).then  # type: ignore[arg-type]  # knobs by name
    assert found is not None
    return found


def state(outlook: Outlook, name: str) -> CheckState:
    return next(check.state for check in outlook.checks if check.name == name)


class TestTheSameAsDecide:
    def test_every_recorded_candidate_has_the_prediction_that_the_decision_has(self) -> None:
        inputs = threatened()
        candidates = decide(inputs).candidates
        assert len(candidates) > 5
        assert any(c.settings.pruning_threshold > 0 for c in candidates)
        for candidate in candidates:
            found = answered(inputs, candidate.settings)
            assert found.then is not None
            assert found.then.predicted == replace(candidate.predicted, breach_probability=None)
            assert found.now.predicted == replace(candidates[0].predicted, breach_probability=None)

    @settings(deadline=None, max_examples=20)
    @given(st.floats(0.2, 12.0), st.integers(0, 40))
    def test_whatever_the_load_is(self, load: float, waiting: int) -> None:
        inputs = decision_inputs(NOW, load, waiting=float(waiting))
        for candidate in decide(inputs).candidates:
            found = answered(inputs, candidate.settings)
            assert found.then is not None
            assert found.then.predicted == replace(candidate.predicted, breach_probability=None)


class TestIntervals:
    def test_hold_the_figure_and_widen_with_the_error_of_the_step_times(self) -> None:
        inputs = threatened()
        sure, unsure = (
            answered(replace(inputs, step_times=(replace(inputs.step_times[0], error_ratio=error),))).now
            for error in (0.05, 0.25)
        )
        for side in (sure, unsure):
            for figure in (side.ttft_p95_s, side.itl_p95_s, side.throughput_tokens_per_s, side.capacity_rps):
                assert figure.low <= figure.value <= figure.high
        assert sure.itl_p95_s.high - sure.itl_p95_s.low < unsure.itl_p95_s.high - unsure.itl_p95_s.low

    def test_hold_what_the_newest_windows_were_off_by(self) -> None:
        calm = decision_inputs(NOW, CALM_RPS, windows=12)
        plain = answered(calm).now.itl_p95_s
        wide = tuple(
            replace(window, itl_p95_s=plain.value * (3.0 if place % 2 else 0.5))
            for place, window in enumerate(calm.history)
        )
        found = answered(replace(calm, history=wide))
        assert found.residual_windows == 12
        assert found.now.itl_p95_s.high > 2 * plain.high
        assert found.now.itl_p95_s.low < 0.7 * plain.low

    def test_latency_over_load_never_falls_and_reaches_past_what_is_possible(self) -> None:
        found = answered(threatened())
        ttfts = [point.ttft_p95_s.value for point in found.now.curve]
        assert ttfts == sorted(ttfts)
        assert found.now.curve[-1].rate > found.now.predicted.capacity_rps
        assert found.then is not None
        assert [p.rate for p in found.then.curve] == [p.rate for p in found.now.curve]


class TestChecks:
    def test_tells_which_objective_is_broken(self) -> None:
        found = answered(threatened(), offered_rps=50.0).now
        assert state(found, "ttft_slo") is state(found, "capacity") is CheckState.BROKEN

    def test_one_limit_binds_where_all_are_met(self) -> None:
        found = answered(threatened(), offered_rps=0.01).now
        binding = [check for check in found.checks if check.state is CheckState.BINDS]
        assert len(binding) == 1
        assert binding[0].share == max(check.share or 0 for check in found.checks)

    def test_quality_that_nobody_measured_is_not_taken_for_none(self) -> None:
        found = then(threatened(), pruning_threshold=0.6)
        assert found.quality_loss is None
        assert state(found, "quality") is CheckState.UNKNOWN
        assert any("without its gain" in note for note in found.notes)

    def test_nodes_policy_and_people_have_their_say(self) -> None:
        most = CAPABILITIES.max_batch_size
        found = then(threatened(), max_batch_size=most + 1, pruning_threshold=0.3)
        assert state(found, "nodes") is CheckState.BROKEN
        assert state(found, "step_size") is state(found, "autonomy") is CheckState.ASKS
        assert {check.name for check in answered(threatened()).now.checks} == {
            "ttft_slo", "itl_slo", "capacity", "quality", "memory",
        }  # fmt: skip

    def test_memory_is_what_running_requests_hold_of_the_smallest_cache(self) -> None:
        found = answered(threatened(), offered_rps=1.0).now
        assert found.kv_share is not None
        wide = answered(threatened(), offered_rps=3.0).now
        assert wide.kv_share is not None
        assert 0 < found.kv_share.value < wide.kv_share.value < 1


class TestUnknown:
    def test_a_precision_that_nobody_ran_is_refused_and_the_present_still_told(self) -> None:
        found = answered(threatened(), EngineSettings(max_batch_size=4, precision=Precision.INT8))
        assert found.then is None
        assert found.unknown is not None
        assert "int8" in found.unknown

    @pytest.mark.parametrize(
        "lacking", [{"step_times": ()}, {"workload": None}, {"observation": missing(NOW, 5.0)}, {"nodes": ()}]
    )
    def test_says_what_is_missing_in_the_words_of_the_decision(self, lacking: dict[str, object]) -> None:
        inputs = replace(decision_inputs(NOW), **lacking)  # type: ignore[arg-type]  # whatever fields a test names
        found = what_if(inputs, (), Question(inputs.settings))
        assert isinstance(found, str)
        assert found


class TestLengths:
    def test_longer_answers_lower_the_capacity(self) -> None:
        inputs = threatened()
        longer = answered(inputs, generation_tokens=4 * 48.0)
        assert longer.now.predicted.capacity_rps < answered(inputs).now.predicted.capacity_rps / 3
        assert longer.workload == Workload(40.0, 192.0)

    def test_step_times_follow_the_context_as_the_nodes_fitted_it(self) -> None:
        settings, seen = EngineSettings(max_batch_size=4), Workload(40.0, 48.0)
        profile = StepProfile(fits=(FIT,))
        folded = tuple(step.scaled(1.3) for step in offered_step_times([profile], settings, seen))
        inputs = replace(decision_inputs(NOW), step_times=folded)
        question = Question(settings, prompt_tokens=800.0, generation_tokens=400.0)
        found, blind = (what_if(inputs, profiles, question) for profiles in ((profile,), ()))
        assert isinstance(found, Answer)
        assert isinstance(blind, Answer)
        expected = offered_step_times([profile], settings, Workload(800.0, 400.0))[0].scaled(1.3)
        assert found.now.predicted.itl_p95_s > 1.2 * blind.now.predicted.itl_p95_s
        direct = what_if(
            replace(inputs, step_times=(expected,), workload=Workload(800.0, 400.0)), (), Question(settings)
        )
        assert isinstance(direct, Answer)
        assert found.now.predicted.capacity_rps == pytest.approx(direct.now.predicted.capacity_rps, rel=1e-5)

    def test_the_machines_own_tails_stay(self) -> None:
        calm = decision_inputs(NOW, CALM_RPS, windows=12, itl_p95_s=0.066)
        assert answered(calm).now.itl_p95_s.value == pytest.approx(0.066, rel=0.02)
        assert answered(calm, prompt_tokens=400.0).now.itl_p95_s.value >= 0.065
