"""What a tick reads of all nodes: the same as their rows say, and documents checked anew only when they differ."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.fleets.readings import NodeReadings
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.step_profile import StepProfile
from tests.support.registrations import registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def nodes(session: Session) -> list[Node]:
    """Two in one pool and one in another."""
    given = (("node-2", "tiny"), ("node-1", "tiny"), ("node-3", "other"))
    return [
        fleets.register_node(session, registration(name, pool=pool, instance_id=name), now=NOW).node
        for name, pool in given
    ]


def test_it_says_what_the_rows_say_by_name(session: Session, nodes: list[Node]) -> None:
    found = NodeReadings().of_all(session)
    assert {pool: [each.name for each in there] for pool, there in found.items()} == {
        nodes[0].pool_id: ["node-1", "node-2"],
        nodes[2].pool_id: ["node-3"],
    }
    for reading in (each for there in found.values() for each in there):
        row = fleets.get_node(session, reading.id)
        for name in ("name", "pool_id", "state", "last_heartbeat_at"):
            assert getattr(reading, name) == getattr(row, name), name
        assert reading.capabilities == NodeCapabilities.model_validate(row.capabilities)
        assert reading.step_profile == StepProfile.model_validate(row.step_profile or {})
    assert NodeReadings().of_pool(session, nodes[0].pool_id) == found[nodes[0].pool_id]


def test_removed_ones_are_not_among_them(session: Session, nodes: list[Node]) -> None:
    nodes[0].removed_at = NOW
    session.flush()
    assert [each.name for each in NodeReadings().of_pool(session, nodes[0].pool_id)] == ["node-1"]


def test_a_document_is_checked_again_when_it_has_changed_and_not_before(session: Session, nodes: list[Node]) -> None:
    readings, pool_id = NodeReadings(), nodes[2].pool_id
    (first,) = readings.of_all(session)[pool_id]
    (second,) = readings.of_all(session)[pool_id]
    assert second.capabilities is first.capabilities and second.step_profile is first.step_profile
    changed = first.capabilities.model_copy(update={"max_batch_size": first.capabilities.max_batch_size + 1})
    nodes[2].capabilities = changed.model_dump(mode="json")
    session.flush()
    (third,) = readings.of_all(session)[pool_id]
    assert third.capabilities == changed and third.step_profile is first.step_profile
