"""What may be proposed: the policy's word and the nodes' own records together."""

from typing import Any

from controlplane.decisions.certified import certified_variants
from controlplane.decisions.decision import NodeFacts
from controlplane.decisions.optimizer import propose
from controlplane.decisions.policy import CertifiedVariant, Policy, Quality
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.quality import NodeQuality, QualityRecord, StepTimeRatio
from inference_node.contract.settings import EngineSettings, Precision
from tests.support.quality_records import quality_record

NOW = EngineSettings()


def _node(name: str, *records: QualityRecord, measures: bool = True) -> NodeFacts:
    capabilities = NodeCapabilities(
        precisions=(Precision.BF16, Precision.INT8, Precision.INT4),
        max_batch_size=32,
        max_batched_tokens=2048,
        max_model_len=2048,
        kv_tokens=65536,
        quality=NodeQuality(max_perplexity_ratio=1.15, max_kl=0.3, records=records) if measures else None,
    )
    return NodeFacts(id=name, name=name, ready=True, capabilities=capabilities)


def _levels(*nodes: NodeFacts, policy: Policy | None = None, now: EngineSettings = NOW) -> dict[Any, float]:
    found = certified_variants(now, policy or Policy(), nodes)
    return {(v.precision.value, v.pruning_threshold): v.quality_loss_ratio for v in found}


class TestCertifiedVariants:
    def test_what_all_nodes_measured_with_the_worst_of_their_losses(self) -> None:
        one, other = (_node(name, quality_record(perplexity_ratio=r)) for name, r in (("a", 1.002), ("b", 1.006)))

        assert {level: round(loss, 6) for level, loss in _levels(one, other).items()} == {("int8", 0.0): 0.006}

    def test_not_what_one_node_has_not_measured_or_found_too_bad(self) -> None:
        good, bad = quality_record(), quality_record(kl_mean=0.4)

        assert _levels(_node("a", good), _node("b")) == {}
        assert _levels(_node("a", good), _node("b", bad)) == {}
        assert _levels(_node("a", good), _node("b", measures=False)) == {}

    def test_the_policys_own_word_holds_until_a_node_measured_otherwise(self) -> None:
        listed = CertifiedVariant(precision=Precision.INT8, pruning_threshold=0.3, quality_loss_ratio=0.001)
        policy = Policy(quality=Quality(certified=(listed,)))

        assert _levels(_node("a"), policy=policy) == {("int8", 0.3): 0.001}
        milder = quality_record(pruning_threshold=0.2, perplexity_ratio=1.5)
        assert _levels(_node("a"), _node("b", milder), policy=policy) == {}

    def test_full_precision_is_the_way_back(self) -> None:
        assert ("bf16", 0.0) in _levels(_node("a"), now=NOW.replace(precision="int8"))
        assert ("bf16", 0.0) not in _levels(_node("a"))

    def test_a_pruned_level_is_as_slow_as_on_the_slowest_node_at_that_batch(self) -> None:
        nodes = (_node("a", _timed((1, 0.6), (32, 0.9))), _node("b", _timed((1, 0.7), (32, 0.8))))

        def ratio(batch: int) -> float | None:
            (found,) = certified_variants(NOW.replace(max_batch_size=batch), Policy(), nodes)
            return found.step_time_ratio

        # Between two measured sizes the less favourable counts, beyond the largest nothing is promised.
        assert [ratio(batch) for batch in (1, 2, 32, 33)] == [0.7, 0.9, 0.9, 1.0]

    def test_where_a_node_did_not_time_it_its_gain_is_not_known(self) -> None:
        nodes = (_node("a", _timed((1, 0.6))), _node("b", quality_record(Precision.BF16, 0.25)))

        assert [v.step_time_ratio for v in certified_variants(NOW, Policy(), nodes)] == [None]


def _timed(*times: tuple[int, float]) -> QualityRecord:
    measured = tuple(StepTimeRatio(rows=rows, ratio=ratio) for rows, ratio in times)
    return quality_record(Precision.BF16, 0.25, step_times=measured)


class TestPropose:
    def test_a_precision_that_all_nodes_certify_is_proposed(self) -> None:
        nodes = (_node("a", quality_record()), _node("b", quality_record()))

        assert {p.settings.precision for p in propose(NOW, Policy(), nodes)} == {Precision.BF16, Precision.INT8}

    def test_none_above_the_policys_budget_of_loss(self) -> None:
        record = quality_record(Precision.INT4, perplexity_ratio=1.07)

        assert {p.settings.precision for p in propose(NOW, Policy(), (_node("a", record),))} == {Precision.BF16}

    def test_no_pruning_whose_gain_nobody_measured(self) -> None:
        record = quality_record(Precision.BF16, 0.25)

        assert {p.settings.pruning_threshold for p in propose(NOW, Policy(), (_node("a", record),))} == {0.0}

    def test_pruning_that_all_nodes_timed_with_its_gain_at_the_proposed_batch(self) -> None:
        node = _node("a", _timed((NOW.max_batch_size, 0.7), (10 * NOW.max_batch_size, 0.9)))
        found = propose(NOW, Policy(), (node,))
        pruned = {p.settings.max_batch_size: p.step_time_ratio for p in found if p.settings.pruning_threshold == 0.25}

        assert pruned[NOW.max_batch_size] == 0.7
        larger = {ratio for batch, ratio in pruned.items() if batch > NOW.max_batch_size}
        assert larger == {0.9}

    def test_from_pruned_back_to_full_precision_at_what_it_costs(self) -> None:
        now = NOW.replace(precision="bf16", pruning_threshold=0.25)
        node = _node("a", _timed((1, 0.8), (64, 0.8)))
        back = [p for p in propose(now, Policy(), (node,)) if p.settings.pruning_threshold == 0]

        assert back
        assert {p.step_time_ratio for p in back} == {1 / 0.8}
