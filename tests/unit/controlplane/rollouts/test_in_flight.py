from sqlalchemy import update
from sqlalchemy.orm import Session

from controlplane.fleets import service as fleets
from controlplane.rollouts import in_flight
from controlplane.rollouts.models import RolloutNode
from controlplane.rollouts.phases import NodeState
from tests.support.rollouts_in_sql import NOW, lab


def test_a_tenth_of_the_fleet_and_always_one() -> None:
    assert [in_flight.allowed(nodes) for nodes in (1, 9, 20, 1000)] == [1, 1, 2, 100]


def test_what_was_sent_and_is_not_confirmed_is_counted(session: Session) -> None:
    made = lab(session, nodes=30)
    fleet_id = made.pool.fleet_id
    assert in_flight.free(session, fleet_id) == 3
    rollout = made.begin()
    ids = [node.id for node in made.nodes()[:2]]
    session.execute(
        update(RolloutNode)
        .where(RolloutNode.rollout_id == rollout.id, RolloutNode.node_id.in_(ids))
        .values(state=NodeState.DISPATCHED.value)
    )
    assert in_flight.free(session, fleet_id) == 1
    fleets.remove_node(session, made.nodes()[29].id, actor="a", now=NOW, heartbeat_timeout_s=15, force=True)
    assert in_flight.free(session, fleet_id) == 0
