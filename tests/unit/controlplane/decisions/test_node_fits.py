"""Fits that nodes offer, in the shape of the pool's model."""

from typing import Any

import pytest

from controlplane.decisions.decision import Workload
from controlplane.decisions.node_fits import offered_step_times
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepFit, StepProfile, StepShape

SETTINGS = EngineSettings(max_batch_size=8, max_batched_tokens=512)
LOAD = Workload(prompt_tokens=100, generation_tokens=60)


def fit(**more: Any) -> StepFit:
    """Flat up to 16 tokens, then 0.4 ms a token; rows, context and pairs cost a little, too."""
    known: dict[str, Any] = {
        "precision": Precision.BF16,
        "base_s": 0.010,
        "curve": ((16, 0.0), (512, 0.1984)),
        "decode_row_s": 0.0002,
        "prefill_row_s": 0.001,
        "context_token_s": 1e-6,
        "prefill_pair_s": 1e-7,
        "samples": 100,
        "error_median": 0.02,
    }
    return StepFit(**known | more)


def offered(*fits: StepFit, settings: EngineSettings = SETTINGS) -> Any:
    return offered_step_times([StepProfile(fits=(each,)) for each in fits], settings, LOAD)


class TestOfferedStepTimes:
    def test_a_decode_step_costs_what_the_node_says_with_the_average_context(self) -> None:
        (step,) = offered(fit())
        for rows in (1, 4, 8, 16, 24, 64):
            shape = StepShape(rows, context_tokens=rows * 130)
            assert step.at(rows, 0) == pytest.approx(fit().step_s(shape), rel=1e-6)

    def test_prefill_costs_what_a_whole_prompt_beside_half_a_batch_does(self) -> None:
        (step,) = offered(fit())
        shape = StepShape(4, 100, 1, 4 * 130, 100 * 100 // 2)
        assert step.at(4, 100) == pytest.approx(fit().step_s(shape), rel=1e-6)

    def test_nodes_are_averaged(self) -> None:
        (step,) = offered(fit(base_s=0.010), fit(base_s=0.030))
        assert step.base_s == pytest.approx(0.020)
        assert step.samples == 200

    @pytest.mark.parametrize(
        "poor", [{"error_median": 0.3}, {"pruning": 0.4}, {"kv_precision": "int8"}], ids=["bad", "pruned", "other kv"]
    )
    def test_fits_that_say_nothing_of_these_settings_are_left_out(self, poor: dict[str, Any]) -> None:
        assert offered(fit(**poor)) == ()

    def test_pruned_settings_take_the_pruned_fit(self) -> None:
        pruned = SETTINGS.replace(pruning_threshold=0.4)
        (step,) = offered(fit(), fit(pruning=0.4, base_s=0.005), settings=pruned)
        assert step.base_s == pytest.approx(0.005)

    def test_nodes_of_an_older_version_offer_none(self) -> None:
        assert offered_step_times([StepProfile()], SETTINGS, LOAD) == ()

    def test_without_any_request_there_is_no_context(self) -> None:
        (step,) = offered_step_times([StepProfile(fits=(fit(),))], SETTINGS, None)
        assert step.at(4, 0) == pytest.approx(fit().step_s(StepShape(4, context_tokens=4)), rel=1e-3)
