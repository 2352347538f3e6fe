"""Windows that nodes wrote down: the facts that Prometheus would have told, kept once."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.from_nodes import observation, take_history
from controlplane.telemetry.observation import Observation, Quality
from inference_node.contract.history import ChangedBy, NodeChange, NodeHistory, NodeWindow
from inference_node.contract.settings import Precision
from inference_node.engine.listener import RequestRecord, StepRecord
from inference_node.engine.requests import FinishReason, RequestTiming
from inference_node.metrics import NodeMetrics
from inference_node.readings import read, window_between
from tests.support.registrations import registration

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def served(metrics: NodeMetrics, requests: int) -> None:
    for index in range(requests):
        metrics.on_request_offered(32)
        metrics.on_token_times([0.2], [0.03] * 9)
        timing = RequestTiming(0.0, 0.01, 0.2, 0.5)
        metrics.on_request_finished(RequestRecord(str(index), FinishReason.LENGTH, timing, 32, 0, 10, 0))


def window_of(metrics: NodeMetrics, requests: int, end: datetime = NOW) -> NodeWindow:
    before = read(metrics.registry)
    served(metrics, requests)
    return window_between(before, read(metrics.registry), end, 15.0)


@pytest.fixture
def metrics() -> NodeMetrics:
    found = NodeMetrics("demo", "0")
    served(found, 100)  # what was before the window is not in it
    return found


class TestObservation:
    def test_rates_quantiles_and_means_are_of_the_window(self, metrics: NodeMetrics) -> None:
        seen = observation(window_of(metrics, 30))
        assert (seen.quality, seen.nodes_up, seen.window_end, seen.window_s) == (Quality.OK, 1, NOW, 15.0)
        assert (seen.offered_rps, seen.requests, seen.errors) == (2.0, 30.0, 0.0)
        assert seen.prompt_tokens_mean == 32.0
        assert seen.ttft_p95_s is not None and 0.15 < seen.ttft_p95_s <= 0.2
        assert seen.itl_p50_s is not None and 0.025 < seen.itl_p50_s <= 0.03

    def test_an_idle_window_has_no_latency_and_says_that_nothing_arrived(self, metrics: NodeMetrics) -> None:
        seen = observation(window_of(metrics, 0))
        assert (seen.offered_rps, seen.requests, seen.ttft_p95_s, seen.step_mean_s) == (0.0, 0.0, None, None)

    def test_steps_are_counted(self, metrics: NodeMetrics) -> None:
        before = read(metrics.registry)
        step = StepRecord(
            step=1, started_s=0.0, duration_s=0.04, precision=Precision.BF16, decode_rows=6, prefill_tokens=0, prefill_rows=0,
            generated_tokens=6, preemptions=0, prefix_queries=0, prefix_hits=0, running=6, waiting=0, blocks_used=1,
            blocks_total=9, batch_cap=8, pruned_ratio=0.0,
        )  # fmt: skip
        metrics.on_step(step)
        seen = observation(window_between(before, read(metrics.registry), NOW, 15.0))
        assert seen.step_mean_s == pytest.approx(0.04)
        assert seen.decode_rows_mean == 6.0

    def test_nonsense_is_no_fact(self) -> None:
        strange = NodeWindow(
            end=NOW,
            window_s=15,
            increases={"inference_requests_offered_total": -5, "inference_steps_total": float("nan"), "unknown": 1},
            gauges={"vllm:num_requests_running": float("inf")},
            buckets={"vllm:time_to_first_token_seconds": {"wide": 3, "+Inf": 3}},
        )
        assert observation(strange) == Observation(NOW, 15.0, Quality.OK, nodes_up=1)


class TestTaken:
    @pytest.fixture
    def node_id(self, session: Session) -> str:
        return fleets.register_node(session, registration("node-1"), now=NOW).node.id

    def part(self, metrics: NodeMetrics, number: int = 1, ends: tuple[datetime, ...] = (NOW,)) -> NodeHistory:
        change = NodeChange(at=NOW, by=ChangedBy.LEASE, generation=3, changes={"max_batch_size": (16, 8)})
        windows = tuple(window_of(metrics, 30, end) for end in ends)
        return NodeHistory(number=number, away_since=NOW, windows=windows, changes=(change,))

    def kinds(self, session: Session) -> list[str]:
        return [
            kind for kind in session.scalars(select(Event.kind).order_by(Event.id)) if "away" in kind or "hist" in kind
        ]

    def test_once_however_often_it_is_told(self, session: Session, node_id: str, metrics: NodeMetrics) -> None:
        part = self.part(metrics)
        assert take_history(session, node_id, part, now=NOW)
        assert not take_history(session, node_id, part, now=NOW)
        assert self.kinds(session) == ["node.changed_away", "node.history_taken"]
        found = telemetry.latest(session, node_id)
        assert found is not None and found.offered_rps == 2.0

    def test_what_prometheus_told_stays(self, session: Session, node_id: str, metrics: NodeMetrics) -> None:
        known = Observation(NOW, 15.0, Quality.OK, offered_rps=7.0)
        pool_id = fleets.get_node(session, node_id).pool_id
        telemetry.save_nodes(session, {node_id: pool_id}, {node_id: known})
        take_history(session, node_id, self.part(metrics), now=NOW)
        found = telemetry.latest(session, node_id)
        assert found is not None and found.offered_rps == 7.0

    def test_times_that_cannot_be_are_left_out_and_counted(
        self, session: Session, node_id: str, metrics: NodeMetrics
    ) -> None:
        ends = (NOW - timedelta(days=400), NOW, NOW + timedelta(days=1))
        take_history(session, node_id, self.part(metrics, ends=ends), now=NOW)
        assert len(telemetry.recent(session, node_id, NOW - timedelta(days=500))) == 1
        event = session.scalars(select(Event).where(Event.kind == "node.history_taken")).one()
        assert event.data["left_out"] == 2 and "2 of a time that cannot be" in event.message
