"""What clients see of the history."""

from typing import Any

from controlplane.schemas import Out, UtcTime


class EventOut(Out):
    id: int
    at: UtcTime
    kind: str
    severity: str
    actor: str
    message: str
    pool_id: str | None
    node_id: str | None
    rollout_id: str | None
    decision_id: str | None
    data: dict[str, Any]
