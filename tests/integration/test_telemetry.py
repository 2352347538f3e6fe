"""The queries against a real Prometheus that scrapes a node's real collectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.telemetry.collector import Collector
from controlplane.telemetry.observation import NodeRef, Objectives, Observation, PoolRef, Quality
from controlplane.telemetry.prometheus import Prometheus, PrometheusUnavailable
from controlplane.telemetry.queries import TRIMTAB, Grouping, quantiles
from tests.support.exporter import Exporter, exporter
from tests.support.ports import free_port
from tests.support.prometheus_server import PrometheusServer, Target, prometheus_server

pytestmark = pytest.mark.prometheus

WINDOW_S = 30.0
OFFERED = "inference_requests_offered_total"


def labels(pool: PoolRef, node: NodeRef) -> dict[str, str]:
    return {"fleet": pool.fleet, "pool": pool.name, "node": node.name, "node_id": node.id}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with prometheus_server(tmp_path_factory.mktemp("prometheus"), scrape_interval_s=0.25) as running:
        yield running


@dataclass(frozen=True)
class Fleet:
    """Two nodes of a pool and one of another, with names of their own in each test: the server remembers those before."""

    pool: PoolRef
    other: PoolRef
    one: NodeRef
    two: NodeRef
    three: NodeRef


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Fleet:
    name = request.node.name.replace("_", "-")
    nodes = (NodeRef(f"{name}-{index}", f"n{index}") for index in range(3))
    return Fleet(PoolRef("p", f"{name}-main", "default"), PoolRef("o", f"{name}-other", "default"), *nodes)


@pytest.fixture
def nodes(server: PrometheusServer, fleet: Fleet) -> Iterator[list[Exporter]]:
    """Two nodes of the pool and one of another; each was scraped at 0 for a while before a test feeds it."""
    with exporter() as one, exporter() as two, exporter() as three:
        found = [one, two, three]
        places = [(fleet.pool, fleet.one), (fleet.pool, fleet.two), (fleet.other, fleet.three)]
        server.set_targets([Target(each.address, labels(*place)) for each, place in zip(found, places, strict=True)])
        for each in found:
            # Enough samples at 0 that what increase() adds at the ends of a short-lived series is small.
            server.wait_for(f'count_over_time({OFFERED}{{instance="{each.address}"}}[30s]) >= 12')
        yield found
        server.set_targets([])


@pytest.fixture
def collector(server: PrometheusServer) -> Iterator[Collector]:
    client = Prometheus(server.url, timeout_s=10)
    yield Collector(client, scrape_interval_s=5)  # far above the real one: a slow machine is not stale data
    client.close()


def fed(server: PrometheusServer, each: Exporter, total: int) -> None:
    server.wait_for(f'{OFFERED}{{instance="{each.address}"}} == {total}')


def collected(
    collector: Collector, pool: PoolRef, nodes: list[NodeRef], at: datetime
) -> tuple[Observation, dict[str, Observation]]:
    return collector.collect_pool(pool, nodes, at, WINDOW_S), collector.collect_nodes(nodes, at, WINDOW_S)


def prometheus_quantiles(server: PrometheusServer, pool: PoolRef, at: datetime) -> dict[str, float]:
    client = Prometheus(server.url, timeout_s=10)
    try:
        return {
            fact: float(sample.value)
            for fact, asked in quantiles(TRIMTAB, Grouping.POOL, WINDOW_S).items()
            for sample in client.query(asked, at)
            if sample.labels["pool"] == pool.name
        }
    finally:
        client.close()


class TestCollector:
    def test_reads_what_nodes_and_pool_measured(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        one, two, _ = nodes
        one.running, one.waiting, two.waiting = 4, 7, 2
        one.serve(100, ttft_s=0.35, itl_s=0.045, failed=10)
        two.serve(300, ttft_s=1.6, itl_s=0.085)
        fed(server, one, 100)
        fed(server, two, 300)
        at = datetime.now(UTC)
        # A scrape that began before is kept once it has ended: both sides shall be asked when later ones are.
        for each in (one, two):
            server.wait_for(f'timestamp({OFFERED}{{instance="{each.address}"}}) > {at.timestamp()}')
        pool, by_node = collected(collector, fleet.pool, [fleet.one, fleet.two], at)
        for fact, value in prometheus_quantiles(server, fleet.pool, at).items():
            assert getattr(pool, fact) == pytest.approx(value, nan_ok=False), f"{fact} as Prometheus computes it"
        asked = Objectives(ttft_s=1.5, itl_s=0.08)  # bounds of buckets: nothing is interpolated
        held = collector.collect_pool(fleet.pool, [fleet.one, fleet.two], at, WINDOW_S, asked)
        assert held.ttft_slow is not None
        assert held.itl_slow is not None
        assert held.ttft_slow / (held.ttft_count or 0) == pytest.approx(0.75, abs=0.02)
        assert held.itl_slow / (held.itl_count or 0) == pytest.approx(0.75, abs=0.02)
        first, second = by_node[fleet.one.id], by_node[fleet.two.id]
        assert (pool.quality, first.quality, second.quality) == (Quality.OK,) * 3
        assert pool.nodes_up == 2
        assert first.offered_rps is not None
        assert first.offered_rps * WINDOW_S == pytest.approx(100, rel=0.15)
        assert pool.offered_rps is not None
        assert pool.offered_rps * WINDOW_S == pytest.approx(400, rel=0.15)
        assert first.errors == pytest.approx(10, rel=0.15)
        assert (first.requests or 0) == pytest.approx(100, rel=0.15)
        assert second.errors == 0
        assert (pool.running, pool.waiting, first.waiting, second.waiting) == (4, 9, 7, 2)
        assert pool.kv_usage == pytest.approx(0.25)
        # Quantiles lie in the right bucket of the node's own histogram.
        assert 0.3 <= (first.ttft_p95_s or 0) <= 0.4
        assert 1.5 <= (second.ttft_p95_s or 0) <= 1.75
        assert 1.5 <= (pool.ttft_p95_s or 0) <= 1.75
        assert 0.04 <= (first.itl_p95_s or 0) <= 0.05
        assert first.prompt_tokens_mean == pytest.approx(32)
        assert first.generation_tokens_mean == pytest.approx(16)
        assert first.step_mean_s == pytest.approx((0.1 + 3 * 0.045) / 4)
        assert first.decode_rows_mean == pytest.approx(3.0)
        assert first.prefill_tokens_mean == pytest.approx(8.0)
        assert first.prefix_hit_ratio == 0

    def test_latency_of_an_idle_window_is_absent(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        pool, by_node = collected(collector, fleet.pool, [fleet.one], datetime.now(UTC))
        assert pool.quality is Quality.OK
        assert by_node[fleet.one.id].offered_rps == 0
        assert by_node[fleet.one.id].ttft_p95_s is None
        assert by_node[fleet.one.id].prompt_tokens_mean is None

    def test_a_restart_does_not_make_rates_negative(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        one = nodes[0]
        one.serve(100, ttft_s=0.35, itl_s=0.045)
        fed(server, one, 100)
        one.restart()
        one.serve(40, ttft_s=0.35, itl_s=0.045)
        fed(server, one, 40)
        _, by_node = collected(collector, fleet.pool, [fleet.one], datetime.now(UTC))
        assert (by_node[fleet.one.id].offered_rps or 0) * WINDOW_S == pytest.approx(140, rel=0.15)

    def test_pools_do_not_mix(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        nodes[2].serve(50, ttft_s=0.1, itl_s=0.02)
        fed(server, nodes[2], 50)
        at = datetime.now(UTC)
        pool, _ = collected(collector, fleet.pool, [fleet.one, fleet.two], at)
        other, _ = collected(collector, fleet.other, [fleet.three], at)
        assert pool.offered_rps == 0
        assert (other.offered_rps or 0) > 1

    def test_a_node_that_is_down_is_missing_and_the_pool_partial(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        gone = f"127.0.0.1:{free_port()}"
        server.set_targets(
            [Target(nodes[0].address, labels(fleet.pool, fleet.one)), Target(gone, labels(fleet.pool, fleet.two))]
        )
        server.wait_for(f'up{{instance="{gone}"}} == 0')
        pool, by_node = collected(collector, fleet.pool, [fleet.one, fleet.two], datetime.now(UTC))
        assert by_node[fleet.two.id].quality is Quality.MISSING
        assert pool.quality is Quality.PARTIAL
        assert pool.nodes_up == 1

    def test_samples_older_than_three_scrapes_are_stale(
        self, server: PrometheusServer, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        """Seen from a minute ahead, the newest sample is as old as if scraping had stopped."""
        nodes[0].serve(100, ttft_s=0.35, itl_s=0.045)
        fed(server, nodes[0], 100)
        pool, by_node = collected(
            collector, fleet.pool, [fleet.one, fleet.two], datetime.now(UTC) + timedelta(seconds=60)
        )
        assert by_node[fleet.one.id].quality is Quality.STALE
        assert pool.quality is Quality.STALE
        assert pool.offered_rps is None

    def test_knows_nothing_of_a_node_that_is_not_scraped(
        self, nodes: list[Exporter], collector: Collector, fleet: Fleet
    ) -> None:
        pool, by_node = collected(collector, fleet.pool, [NodeRef("nobody", "nobody")], datetime.now(UTC))
        assert by_node["nobody"].quality is Quality.MISSING
        assert pool.quality is Quality.MISSING


class TestPrometheus:
    def test_names_the_address_and_the_way_out_when_nobody_answers(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(PrometheusUnavailable, match=r"refused.*CONTROLPLANE_PROMETHEUS_URL") as caught:
            Prometheus(url, timeout_s=1).check()
        assert url in caught.value.detail

    def test_a_refused_query_is_an_error_with_its_cause(self, server: PrometheusServer) -> None:
        with pytest.raises(PrometheusUnavailable, match="parse error"):
            Prometheus(server.url).query("sum(", datetime.now(UTC))

    def test_check_passes_on_a_running_server(self, server: PrometheusServer, tmp_path: Path) -> None:
        Prometheus(server.url).check()
