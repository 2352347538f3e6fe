"""The collector on answers as Prometheus gives them, without one."""

from datetime import UTC, datetime

import pytest

from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef, Quality
from controlplane.telemetry.prometheus import Sample

AT = datetime(2026, 1, 1, tzinfo=UTC)
POOL = PoolRef("p", "main", "default")
NODES = [NodeRef("a", "one"), NodeRef("b", "two")]
FRESH = {"up": "1", "age": "2", "offered": "50", "running": "3", "waiting": "1"}


class Answers:
    """Answers every query with the same facts, each node's and the pool's."""

    def __init__(
        self, nodes: dict[str, dict[str, str]], pool: dict[str, str], buckets: dict[str, str] | None = None
    ) -> None:
        self.asked = 0
        self._buckets = buckets or {}
        self._nodes, self._pool = nodes, pool

    def query(self, promql: str, at: datetime) -> list[Sample]:
        self.asked += 1
        if "le) (increase" in promql:
            if "histogram_quantile" in promql:
                return [
                    Sample({"node_id": node, "fact": fact}, value)
                    for node, facts in self._nodes.items()
                    for fact, value in facts.items()
                    if fact.endswith("p95_s")
                ]
            labels = {"fleet": "default", "pool": "main", "fact": "vllm:time_to_first_token_seconds"}
            return [Sample(labels | {"le": bound}, count) for bound, count in self._buckets.items()]
        if "by (fleet, pool)" in promql:
            labels = {"fleet": "default", "pool": "main"}
            return [Sample(labels | {"fact": fact}, value) for fact, value in self._pool.items()]
        return [
            Sample({"node_id": node, "fact": fact}, value)
            for node, facts in self._nodes.items()
            for fact, value in facts.items()
        ]


def collector(a: dict[str, str], b: dict[str, str], pool: dict[str, str] | None = None) -> Collector:
    return Collector(Answers({"a": a, "b": b}, pool or FRESH), scrape_interval_s=5)


def collect(collecting: Collector, at: datetime = AT) -> tuple[Observation, dict[str, Observation]]:
    return collecting.collect_pool(POOL, NODES, at, 10), collecting.collect_nodes(NODES, at, 10)


class TestCollect:
    def test_counts_become_rates_of_the_window(self) -> None:
        pool, nodes = collect(collector(FRESH, FRESH))
        assert pool.quality is Quality.OK
        assert nodes["a"].offered_rps == 5.0
        assert pool.nodes_up == 2

    def test_not_a_number_is_absent(self) -> None:
        _, nodes = collect(collector(FRESH | {"ttft_p95_s": "NaN", "step_mean_s": "+Inf"}, FRESH))
        assert nodes["a"].quality is Quality.OK
        assert nodes["a"].ttft_p95_s is None
        assert nodes["a"].step_mean_s is None

    def test_old_samples_are_stale_and_carry_no_figures(self) -> None:
        _, nodes = collect(collector(FRESH | {"age": "15.1"}, FRESH))
        assert nodes["a"].quality is Quality.STALE
        assert nodes["a"].offered_rps is None

    def test_three_scrapes_old_is_still_fresh(self) -> None:
        _, nodes = collect(collector(FRESH | {"age": "15"}, FRESH))
        assert nodes["a"].quality is Quality.OK

    def test_a_node_that_is_down_makes_the_pool_partial(self) -> None:
        pool, nodes = collect(collector(FRESH | {"up": "0"}, FRESH))
        assert nodes["a"].quality is Quality.MISSING
        assert pool.quality is Quality.PARTIAL
        assert pool.nodes_up == 1

    def test_a_pool_without_its_own_figures_is_missing(self) -> None:
        pool, _ = collect(collector(FRESH, FRESH, {"kv_usage": "0.1"}))
        assert pool.quality is Quality.MISSING

    def test_a_pool_without_nodes_is_missing(self) -> None:
        assert collector(FRESH, FRESH).collect_pool(POOL, [], AT, 10).quality is Quality.MISSING

    def test_one_fetch_serves_all_pools_of_a_tick_and_another_all_nodes(self) -> None:
        answers = Answers({"a": FRESH, "b": FRESH}, FRESH)
        collecting = Collector(answers)
        collecting.collect_pool(POOL, NODES, AT, 10)
        once = answers.asked
        collecting.collect_pool(PoolRef("q", "other", "default"), [], AT, 10)
        assert answers.asked == once
        collecting.collect_pool(POOL, NODES, AT, 5)
        assert answers.asked == 2 * once
        collecting.collect_nodes(NODES[:1], AT, 5)
        with_nodes = answers.asked
        assert with_nodes > 2 * once
        collecting.collect_nodes(NODES[1:], AT, 5)
        assert answers.asked == with_nodes

    def test_quantiles_of_a_pool_are_read_from_its_buckets(self) -> None:
        counts = {"0.1": "50", "0.2": "90", "0.4": "100", "+Inf": "100"}
        seen = Collector(Answers({"a": FRESH, "b": FRESH}, FRESH, counts)).collect_pool(POOL, NODES, AT, 10)
        assert seen.ttft_p50_s == pytest.approx(0.1)
        assert seen.ttft_p95_s == pytest.approx(0.3)
        assert seen.itl_p95_s is None

    def test_what_missed_the_objective_is_counted_from_the_same_buckets(self) -> None:
        answers = Answers({"a": FRESH, "b": FRESH}, FRESH, {"0.1": "50", "0.2": "90", "0.4": "100", "+Inf": "100"})
        collecting = Collector(answers)
        plain = collecting.collect_pool(POOL, NODES, AT, 10)
        asked = answers.asked
        seen = collecting.collect_pool(POOL, NODES, AT, 10, Objectives(ttft_s=0.3, itl_s=0.1))
        assert seen.ttft_count == 100.0
        assert seen.ttft_slow == pytest.approx(5.0)
        assert (seen.itl_count, seen.itl_slow, plain.ttft_count) == (None, None, None)
        assert answers.asked == asked
