"""Who takes part, in which order, and under which policy."""

import pytest

from controlplane.decisions.policy import Autonomy, demo_policy
from inference_node.contract.settings import KNOBS, EngineSettings, Precision
from trimtab.errors import UsageError
from trimtab.surge_bench.answer import Objectives
from trimtab.surge_bench.budget import Budget
from trimtab.surge_bench.level import Level
from trimtab.surge_bench.policies import KINDS, contestants, parse_grid, parse_kinds, tuning, untouched

DEFAULT = EngineSettings(max_batch_size=4)
BF16, INT8 = Level(Precision.BF16), Level(Precision.INT8)


class TestContestants:
    def test_trimtab_is_first_and_the_default_is_not_run_twice(self) -> None:
        names = [each.name for each in contestants(KINDS, DEFAULT, [BF16, INT8], None)]
        assert names == ["trimtab", "default", "static: bf16 batch 16", "static: int8 batch 4", "static: int8 batch 16"]

    def test_all_begin_with_the_default_but_the_fixed_ones(self) -> None:
        tuned, default, fixed = contestants(KINDS, DEFAULT, [BF16], [(INT8, 12)])
        assert tuned.settings == default.settings == DEFAULT
        assert fixed.settings == DEFAULT.replace(precision="int8", max_batch_size=12)
        assert [each.is_tuned for each in (tuned, default, fixed)] == [True, False, False]

    def test_only_what_was_asked_for(self) -> None:
        assert [each.name for each in contestants(("default",), DEFAULT, [BF16], None)] == ["default"]


class TestParsing:
    def test_kinds(self) -> None:
        assert parse_kinds("all") == KINDS
        assert parse_kinds("static, trimtab") == ("static", "trimtab")
        with pytest.raises(UsageError, match="--policy best: there are trimtab, default, static, and all"):
            parse_kinds("best")

    def test_a_grid(self) -> None:
        assert parse_grid("int8:16, bf16:4") == ((INT8, 16), (BF16, 4))

    @pytest.mark.parametrize("text", ["int8", "int8:0", "int8:many", "int9:4", ":4", "int8:513"])
    def test_a_grid_that_is_none(self, text: str) -> None:
        with pytest.raises(UsageError, match="--grid"):
            parse_grid(text)


class TestTuning:
    def test_the_controller_gets_the_objectives_and_the_budget_of_this_run(self) -> None:
        policy = tuning(Objectives(0.4, 0.02), 0.05, Budget(INT8, 0.03, 0.06), 660.0)
        assert (policy.slo.ttft_p95_s, policy.slo.itl_p95_s) == (0.4, 0.05)
        assert (policy.quality.max_loss_ratio, policy.quality.average_loss_ratio) == (0.06, 0.03)
        assert {knob for knob, level in policy.autonomy.items() if level is Autonomy.AUTO} == {
            "max_batch_size", "max_batched_tokens", "batch_wait_ms", "precision", "pruning_threshold",
        }  # fmt: skip
        assert policy.quality.average_over_s == 660.0
        assert policy.rollout == demo_policy().rollout

    def test_a_run_of_a_minute_keeps_the_shortest_books_that_there_are(self) -> None:
        assert tuning(Objectives(0.4, 0.02), 0.05, Budget(INT8, 0.03, 0.06), 75.0).quality.average_over_s == 300.0

    def test_without_a_budget_there_is_no_average(self) -> None:
        assert tuning(Objectives(0.4, 0.02), 0.02, Budget(BF16, 0.0, 0.0), 660.0).quality.average_loss_ratio is None


def test_meanwhile_nobody_turns_anything() -> None:
    assert untouched().autonomy == dict.fromkeys(KNOBS, Autonomy.OFF)
