"""What answers may lose follows from the nodes' records."""

import pytest

from inference_node.contract.quality import NodeQuality, QualityRecord
from inference_node.contract.settings import KvPrecision, Precision
from tests.support.quality_records import quality_record
from trimtab.surge_bench.budget import Budget, losses_of, quality_in
from trimtab.surge_bench.level import Level

INT4 = Level(Precision.INT4)


def _node(*records: QualityRecord) -> NodeQuality:
    return NodeQuality(max_perplexity_ratio=1.15, max_kl=0.3, records=records)


class TestLossesOf:
    def test_the_worst_node_counts_and_full_precision_loses_nothing(self) -> None:
        nodes = [_node(quality_record(perplexity_ratio=1.002)), _node(quality_record(perplexity_ratio=1.004))]
        assert losses_of(nodes) == pytest.approx({"fp32": 0, "bf16": 0, "int8": 0.004})

    def test_what_one_node_has_not_measured_is_not_known(self) -> None:
        assert "int8" not in losses_of([_node(quality_record()), _node()])
        assert "int8" not in losses_of([_node(quality_record()), None])

    def test_a_bad_record_is_none(self) -> None:
        assert "int4" not in losses_of([_node(quality_record(Precision.INT4, perplexity_ratio=1.4))])

    def test_records_of_another_kv_cache_are_of_other_answers(self) -> None:
        assert "int8" not in losses_of([_node(quality_record(kv_precision=KvPrecision.FP8))])

    def test_pruned_levels_are_named_as_such(self) -> None:
        assert losses_of([_node(quality_record(pruning_threshold=0.25))])["int8@0.25"] == pytest.approx(0.005)


class TestBudget:
    def test_half_of_what_the_fastest_level_loses(self) -> None:
        budget = Budget.of(INT4, {"bf16": 0.0, "int8": 0.002, "int4": 0.06})
        assert (budget.average, budget.most) == pytest.approx((0.03, 0.06))
        assert [budget.allows(loss) for loss in (0.0, 0.03, 0.0301)] == [True, True, False]

    def test_no_fixed_choice_of_the_fastest_level_keeps_it(self) -> None:
        budget = Budget.of(INT4, {"int4": 0.06})
        assert not budget.allows(budget.most)

    def test_a_fastest_level_that_loses_nothing_leaves_the_exact_ones(self) -> None:
        budget = Budget.of(Level(Precision.BF16), {"bf16": 0.0, "int8": 0.002})
        assert budget.allows(0.0)
        assert not budget.allows(0.002)

    def test_one_that_was_given_stands(self) -> None:
        assert Budget.of(INT4, {"int4": 0.06}, 0.01) == Budget(INT4, 0.01, 0.06)

    def test_one_above_what_the_fastest_loses_is_open_to_all(self) -> None:
        assert Budget.of(Level(Precision.BF16), {"bf16": 0.0}, 0.01).most == 0.01


def test_what_the_api_says_of_a_node_is_understood() -> None:
    quality = _node(quality_record())
    assert quality_in({"quality": quality.model_dump(mode="json")}) == quality
    assert quality_in({}) is quality_in({"quality": None}) is None
