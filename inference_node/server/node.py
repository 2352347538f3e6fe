"""What the HTTP side shares: the parts of one running node and where it is in its life."""

import time
import uuid
from dataclasses import dataclass, field

from inference_node.agent.agent import Agent
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import NodeStore
from inference_node.config import NodeConfig
from inference_node.contract.messages import NodeState
from inference_node.engine.serving import ServingEngine
from inference_node.errors import Unavailable
from inference_node.metrics import NodeMetrics
from inference_node.profiling.recorder import Recorder


class NodeNotReady(Unavailable):
    """The node answers, but takes no requests: it is still loading, or already draining."""

    def __init__(self, state: NodeState, doing: str) -> None:
        super().__init__(f"the node is {state.value}{f' ({doing})' if doing else ''}; ask again later or another node")
        self.state = state


@dataclass(slots=True)
class Node:
    """One node process. `engine` and `keeper` are there once it was ready; they stay while it drains."""

    config: NodeConfig
    store: NodeStore
    metrics: NodeMetrics
    admin_token: str
    version: str
    state: NodeState = NodeState.STARTING
    doing: str = "starting"
    progress: float = 0.0
    engine: ServingEngine | None = None
    keeper: SettingsKeeper | None = None
    agent: Agent | None = None
    instance_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_s: float = field(default_factory=time.monotonic)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        folder, watch_steps = self.store.folder / "profiles", self.metrics.watch_steps
        self.recorder = Recorder(folder, watch_steps, node=self.config.name, version=self.version)

    @property
    def is_ready(self) -> bool:
        return self.state is NodeState.READY

    def serving(self) -> ServingEngine:
        """The engine, for a new request. Raises NodeNotReady."""
        if self.engine is None or not self.is_ready:
            raise NodeNotReady(self.state, self.doing)
        return self.engine

    def settled(self) -> tuple[ServingEngine, SettingsKeeper]:
        """Engine and keeper, for the admin API, which also works while draining. Raises NodeNotReady while loading."""
        if self.engine is None or self.keeper is None:
            raise NodeNotReady(self.state, self.doing)
        return self.engine, self.keeper
