"""What the controller reads of all nodes at each tick: few columns, and documents that are checked again only when they differ.

A thousand nodes as rows of the model, with their pool and their revision, take a controller longer than all its forecasts.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from controlplane.fleets.models import Node
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic, StepProfile

M = TypeVar("M", bound=BaseModel | None)


@dataclass(frozen=True, slots=True)
class NodeReading:
    """A node as decisions look at it. arithmetic: of the settings that it has by its own word; None where we cannot read them."""

    id: str
    name: str
    pool_id: str
    state: str
    last_heartbeat_at: datetime
    started_at: datetime
    capabilities: NodeCapabilities
    step_profile: StepProfile
    arithmetic: StepArithmetic | None


@dataclass(slots=True)
class _Documents(Generic[M]):
    """Of each node the last one, as text and as what it says."""

    read: Callable[[str], M]
    known: dict[str, tuple[str, M]] = field(default_factory=dict)

    def of(self, node_id: str, text: str) -> M:
        known = self.known.get(node_id)
        if known is None or known[0] != text:
            known = self.known[node_id] = (text, self.read(text))
        return known[1]

    def forget_all_but(self, node_ids: Mapping[str, object]) -> None:
        for node_id in [node_id for node_id in self.known if node_id not in node_ids]:
            del self.known[node_id]


class NodeReadings:
    """Remembers documents from call to call. Not thread-safe."""

    def __init__(self) -> None:
        self._capabilities = _Documents(NodeCapabilities.model_validate_json)
        self._profiles = _Documents(StepProfile.model_validate_json)
        self._arithmetics = _Documents(_arithmetic)

    def of_all(self, session: Session) -> dict[str, list[NodeReading]]:
        """By pool: its nodes by name; removed ones are not among them."""
        found = self._read(session, None)
        there = {reading.id: reading for readings in found.values() for reading in readings}
        self._capabilities.forget_all_but(there)
        self._profiles.forget_all_but(there)
        self._arithmetics.forget_all_but(there)
        return found

    def of_pool(self, session: Session, pool_id: str) -> list[NodeReading]:
        return self._read(session, pool_id).get(pool_id, [])

    def _read(self, session: Session, pool_id: str | None) -> dict[str, list[NodeReading]]:
        query = select(
            Node.id, Node.name, Node.pool_id, Node.state, Node.last_heartbeat_at, Node.started_at,
            cast(Node.capabilities, Text), cast(Node.step_profile, Text), cast(Node.observed_settings, Text),
        ).where(Node.is_there)  # fmt: skip
        if pool_id is not None:
            query = query.where(Node.pool_id == pool_id)
        found: dict[str, list[NodeReading]] = defaultdict(list)
        for node_id, name, of_pool, state, heard_at, started_at, *texts in session.execute(query.order_by(Node.name)):
            capabilities, profile, settings = texts
            documents = (
                self._capabilities.of(node_id, capabilities),
                self._profiles.of(node_id, profile),
                self._arithmetics.of(node_id, settings),
            )
            found[of_pool].append(NodeReading(node_id, name, of_pool, state, heard_at, started_at, *documents))
        return found


def _arithmetic(settings: str) -> StepArithmetic | None:
    try:
        return StepArithmetic.of(EngineSettings.model_validate_json(settings))
    except ValidationError:  # of a newer node: nothing is learned from it, and the pool is read all the same
        return None
