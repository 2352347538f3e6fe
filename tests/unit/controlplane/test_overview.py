from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.overview import ObservationTicks, fleet_out, node_detail
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation, Quality
from tests.support.registrations import heartbeat_of, registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = Observation(NOW, 10.0, Quality.OK, offered_rps=3.0, generation_tokens_per_s=120.0, ttft_p95_s=0.4)


@pytest.fixture
def pool(session: Session) -> Pool:
    """Two nodes, of which one is ready and one has not been heard of for a minute."""
    node = fleets.register_node(session, registration("node-1"), now=NOW).node
    fleets.heartbeat(session, node, heartbeat_of(node), now=NOW)
    fleets.register_node(session, registration("node-2"), now=NOW - timedelta(minutes=1))
    return node.pool


class TestFleetOut:
    def test_sums_what_is_fresh(self, session: Session, pool: Pool) -> None:
        telemetry.save_observations(session, pool.id, WINDOW, {})
        fleet = fleet_out(session, now=NOW + timedelta(seconds=5), timeout_s=15)
        assert fleet.totals.model_dump() == {"nodes": 2, "ready": 1, "tokens_per_s": 120.0, "requests_per_s": 3.0}
        assert fleet.pools[0].latest is not None
        assert fleet.pools[0].latest.ttft_p95_s == 0.4

    def test_a_window_of_long_ago_is_shown_but_not_summed(self, session: Session, pool: Pool) -> None:
        telemetry.save_observations(session, pool.id, WINDOW, {})
        fleet = fleet_out(session, now=NOW + timedelta(minutes=5), timeout_s=15)
        assert fleet.pools[0].latest is not None
        assert (fleet.totals.tokens_per_s, fleet.totals.requests_per_s) == (0.0, 0.0)

    def test_a_new_pool_has_its_slo_and_revision_and_nothing_that_was_not_measured(
        self, session: Session, pool: Pool
    ) -> None:
        shown = fleet_out(session, now=NOW, timeout_s=15).pools[0]
        assert shown.slo.ttft_p95_s > 0
        assert shown.current_revision is not None
        assert shown.current_revision.number == 1
        assert (shown.latest, shown.last_decision, shown.active_rollout, shown.breach_probability) == (None,) * 4
        assert shown.error_budget is None


def test_a_node_is_shown_with_its_own_window(session: Session, pool: Pool) -> None:
    node = fleets.list_nodes(session, pool.id)[0]
    telemetry.save_observations(session, pool.id, WINDOW, {node.id: WINDOW})
    shown = node_detail(node, telemetry.latest(session, node.id), now=NOW, timeout_s=15)
    assert shown.latest is not None
    assert shown.latest.offered_rps == 3.0
    assert '"last_heartbeat_at":"2026-03-01T12:00:00.000Z"' in shown.model_dump_json()


def test_ticks_name_the_pools_that_were_observed_since_the_last_time(session: Session, pool: Pool) -> None:
    ticks = ObservationTicks()
    telemetry.save_observations(session, pool.id, WINDOW, {})
    assert ticks(session) == []
    later = Observation(NOW + timedelta(seconds=10), 10.0, Quality.OK)
    telemetry.save_observations(session, pool.id, later, {"n": later})
    assert [(m.event, m.data, m.id) for m in ticks(session)] == [("tick", f'{{"pool_id":"{pool.id}"}}', None)]
    assert ticks(session) == []


def test_a_fleet_of_many_pools_takes_as_many_queries_as_one(session: Session) -> None:
    """People look at this page all day: a query for each pool would make it slower with every pool."""

    def queries() -> int:
        session.expire_all()
        counted: list[str] = []
        listener = session.get_bind(), "before_cursor_execute", lambda *call: counted.append(call[2])
        event.listen(*listener)
        fleet_out(session, now=NOW, timeout_s=15)
        event.remove(*listener)
        return len(counted)

    def join(number: int) -> None:
        node = fleets.register_node(session, registration(f"node-{number}", pool=f"pool-{number}"), now=NOW).node
        telemetry.save_observations(session, node.pool_id, WINDOW, {node.id: WINDOW})

    join(0)
    one = queries()
    for number in range(1, 8):
        join(number)
    assert queries() == one
