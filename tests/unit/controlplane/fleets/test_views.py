"""Nodes as rows for reading say what the nodes as objects say, in every state."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.fleets.schemas import NodeOut
from inference_node.contract.messages import NodeState
from inference_node.contract.settings import EngineSettings
from tests.support.registrations import registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _plain(session: Session, node: Node) -> None:
    return


def _wished(session: Session, node: Node) -> None:
    revision = fleets.create_revision(
        session, node.pool, EngineSettings(max_batch_size=32), created_by="t", reason="", now=NOW
    )
    fleets.set_desired(session, node, revision, epoch=5, now=NOW)


def _tried(session: Session, node: Node) -> None:
    _wished(session, node)
    node.lease_s = 300.0


def _in_quarantine(session: Session, node: Node) -> None:
    node.quarantined_until, node.quarantined_reason = NOW + timedelta(minutes=5), "it crashed"
    node.rejected_generation, node.rejected_reason = 3, "no room"


def _silent(session: Session, node: Node) -> None:
    node.last_heartbeat_at = NOW - timedelta(hours=1)


def _failed(session: Session, node: Node) -> None:
    node.state, node.drifted, node.preparing_generation = NodeState.FAILED, True, 7


@pytest.mark.parametrize("change", [_plain, _wished, _tried, _in_quarantine, _silent, _failed])
def test_a_row_says_what_the_object_says(session: Session, change: Callable[[Session, Node], None]) -> None:
    node = fleets.register_node(session, registration(), now=NOW).node
    change(session, node)
    session.flush()
    (view,) = fleets.list_views(session)
    assert NodeOut(**NodeOut.fields_of(view, now=NOW, timeout_s=15.0)) == NodeOut(
        **NodeOut.fields_of(node, now=NOW, timeout_s=15.0)
    )
    (standing,) = fleets.standings(session, [node.pool_id])[node.pool_id]
    assert fleets.in_sync(standing) == fleets.in_sync(view) == fleets.in_sync(node)
    assert fleets.node_health(standing, NOW, 15.0) is fleets.node_health(node, NOW, 15.0)


def test_pages_follow_the_same_order_as_the_objects(session: Session) -> None:
    for number in (3, 1, 2, 5, 4):
        said = registration(f"node-{number}", pool="one" if number % 2 else "two", instance_id=str(number))
        fleets.register_node(session, said, now=NOW)
    gone = fleets.list_nodes(session)[4]
    gone.removed_at = NOW
    session.flush()
    whole = [view.id for view in fleets.list_views(session)]
    assert whole == [node.id for node in fleets.list_nodes(session)] and gone.id not in whole
    first = fleets.list_views(session, limit=2)
    rest = fleets.list_views(session, after=(first[-1].name, first[-1].id))
    assert [view.id for view in (*first, *rest)] == whole
    in_pool = fleets.list_views(session, gone.pool_id)
    assert [view.id for view in in_pool] == [node.id for node in fleets.list_nodes(session, gone.pool_id)]


def test_changed_settings_are_not_those_of_before(session: Session) -> None:
    node = fleets.register_node(session, registration(), now=NOW).node
    assert fleets.list_views(session)[0].observed_settings == EngineSettings()
    node.observed_settings = EngineSettings(max_batch_size=7).model_dump(mode="json")
    session.flush()
    assert fleets.list_views(session)[0].observed_settings.max_batch_size == 7
