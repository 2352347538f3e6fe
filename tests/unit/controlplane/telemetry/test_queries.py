"""The PromQL that we send."""

import re

from controlplane.telemetry.observation import FACTS
from controlplane.telemetry.queries import TRIMTAB, Grouping, batches, buckets, expressions, health, quantiles
from inference_node.contract.metrics import ALL


def everything(window_s: float) -> dict[str, str]:
    node, pool = ((TRIMTAB, grouping, window_s) for grouping in (Grouping.NODE, Grouping.POOL))
    return expressions(*node) | quantiles(*node) | health(TRIMTAB, window_s) | buckets(*pool)


class TestExpressions:
    def test_ask_only_for_metrics_of_the_contract(self) -> None:
        known = {spec.name for spec in ALL}
        text = " ".join(everything(5.0).values())
        asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"(?:vllm:|inference_)\w+", text)}
        assert asked
        assert asked <= known

    def test_name_facts_of_an_observation(self) -> None:
        counted = {"offered", "prompt_tokens", "generation_tokens", "up", "age"}
        asked = set(everything(5.0)) - counted - set(buckets(TRIMTAB, Grouping.POOL, 5.0))
        assert asked <= set(FACTS)
        assert {"ttft_p95_s", "step_mean_s", "kv_usage"} <= asked

    def test_each_histogram_of_a_pool_is_asked_for_once(self) -> None:
        asked = buckets(TRIMTAB, Grouping.POOL, 5.0)
        assert len(asked) == len({histogram for histogram, _ in TRIMTAB.quantiles.values()}) < len(TRIMTAB.quantiles)

    def test_fractions_of_seconds_become_milliseconds(self) -> None:
        assert "[2500ms]" in expressions(TRIMTAB, Grouping.POOL, 2.5)["offered"]


class TestBatches:
    def test_stay_below_the_limit_and_lose_nothing(self) -> None:
        named = expressions(TRIMTAB, Grouping.NODE, 5.0) | quantiles(TRIMTAB, Grouping.NODE, 5.0)
        found = list(batches(named, limit=1500))
        assert len(found) > 1
        assert all(len(batch) <= 1500 for batch in found)
        assert all(sum(f'"{fact}"' in batch for batch in found) == 1 for fact in named)

    def test_an_expression_over_the_limit_still_goes_alone(self) -> None:
        assert list(batches({"a": "x" * 50, "b": "y"}, limit=10)) == [
            f'label_replace({"x" * 50}, "fact", "a", "", "")',
            'label_replace(y, "fact", "b", "", "")',
        ]
