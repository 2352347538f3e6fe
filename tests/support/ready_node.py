"""A node that has joined over HTTP and reported itself ready, so that its pool takes changes."""

from typing import Any

from inference_node.contract.messages import Heartbeat, NodeRegistered, NodeState
from inference_node.contract.settings import EngineSettings
from tests.support.api import ENROLMENT_TOKEN, Api
from tests.support.registrations import registration


def join_ready_node(api: Api, name: str = "node-1", **changes: Any) -> str:
    """Id of the pool that the node is in. Nothing answers at the node's own address, unless `changes` give it another."""
    body = registration(name, **changes).model_dump(mode="json")
    enrolled = {"Authorization": f"Bearer {ENROLMENT_TOKEN}"}
    answer = api.anonymous.post("/api/v1/agents/register", json=body, headers=enrolled)
    joined = NodeRegistered.model_validate_json(answer.raise_for_status().content)
    settings = EngineSettings()
    beat = Heartbeat(
        instance_id=f"{name}-first-life",
        state=NodeState.READY,
        observed_generation=0,
        observed_epoch=0,
        config_hash=settings.content_hash(),
        settings=settings,
    )
    path = f"/api/v1/agents/{joined.node_id}/heartbeat"
    own = {"Authorization": f"Bearer {joined.token}"}
    api.anonymous.post(path, json=beat.model_dump(mode="json"), headers=own).raise_for_status()
    return str(api.client.get(f"/api/v1/nodes/{joined.node_id}").json()["pool_id"])
