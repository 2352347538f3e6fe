"""Pools and nodes as people want to see them: one answer that draws on all rooms. Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from controlplane.decisions.policy import Policy
from controlplane.decisions.service import LastDecision, current_policies, latest_decisions
from controlplane.events.stream import Message
from controlplane.fleets import service as fleets
from controlplane.fleets.health import NodeHealth
from controlplane.fleets.models import Node, Pool
from controlplane.fleets.schemas import FrozenOut, GeneralFreezeOut, NodeOut, RevisionRef
from controlplane.rollouts.models import Rollout
from controlplane.schemas import Out, UtcTime
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.models import ObservationRecord
from controlplane.telemetry.observation import Observation
from controlplane.telemetry.schemas import ObservationOut

_ACTIVE = select(Rollout.pool_id, Rollout.id, Rollout.phase).where(
    Rollout.active_pool_id.in_(bindparam("pools", expanding=True))
)
# A window older than so many of its own lengths says nothing of now.
_FRESH_WINDOWS = 4
_BURN = ("limit", "freezes", "worst", "bad_ratio", "known_ratio", "window_s", "detail")


class SloOut(Out):
    ttft_p95_s: float
    itl_p95_s: float
    error_rate: float
    attainment: float = Field(description="share that must be within the latencies; the rest is the error budget")


class ErrorBudgetOut(Out):
    """How fast the budget was spent over the last `window_s`, as the newest decision saw it; at 1 it lasts."""

    burn_rate: float | None = Field(description="null while too little of the window is known")
    limit: float | None = Field(description="faster than this only protective changes are made; null: no limit")
    freezes: bool = Field(description="whether that is so now")
    worst: str | None = Field(description="what burns fastest: first_tokens, gaps or errors; null: nothing was spent")
    bad_ratio: float = Field(description="share of these that missed the objective, 0 to 1")
    known_ratio: float = Field(description="share of the window that is known, 0 to 1")
    window_s: float
    detail: str = Field(description="all of it in a sentence")

    @classmethod
    def of(cls, burn: dict[str, Any]) -> "ErrorBudgetOut":
        return cls(burn_rate=burn["rate"], **{name: burn[name] for name in _BURN})


class RolloutRef(Out):
    id: str
    phase: str


class DecisionRef(Out):
    id: str
    at: UtcTime
    outcome: str
    reason: str
    explanation: str


class PoolOut(Out):
    id: str
    name: str
    fleet: str
    model: str
    nodes: int
    ready: int
    in_sync: int
    frozen: FrozenOut | None = Field(description="the pool's own freeze; one of everything stands beside it")
    current_revision: RevisionRef | None
    latest: ObservationOut | None
    slo: SloOut
    breach_probability: float | None = Field(description="that the SLO is broken within the horizon, 0 to 1")
    error_budget: ErrorBudgetOut | None = Field(description="null before the first decision")
    active_rollout: RolloutRef | None
    last_decision: DecisionRef | None


class Totals(Out):
    nodes: int
    ready: int
    tokens_per_s: float = Field(description="generated tokens per second, from windows that are fresh")
    requests_per_s: float = Field(description="requests that arrived per second, from windows that are fresh")


class FleetOut(Out):
    pools: list[PoolOut]
    totals: Totals
    frozen: GeneralFreezeOut | None = Field(
        description="everything is frozen: no pool may change; null while it is not"
    )


class NodeDetail(NodeOut):
    latest: ObservationOut | None


def pools_out(session: Session, pools: Sequence[Pool], *, now: datetime, timeout_s: float) -> list[PoolOut]:
    """In the order of `pools`, with as many queries for all as for one. timeout_s: silence after which a node is unreachable."""
    ids = [pool.id for pool in pools]
    nodes = fleets.standings(session, ids)
    windows = telemetry.latest_of_pools(session, ids)
    policies = current_policies(session, ids[0] if len(ids) == 1 else None)
    decided = latest_decisions(session, ids)
    active = {rollout.pool_id: rollout for rollout in session.execute(_ACTIVE, {"pools": ids})}
    current = fleets.revisions_by_id(session, [id_ for pool in pools if (id_ := pool.current_revision_id) is not None])

    def out(pool: Pool) -> PoolOut:
        policy, _ = policies.get(pool.id, (Policy(), 0))
        theirs, latest = nodes.get(pool.id, []), windows.get(pool.id)
        decision, rollout = decided.get(pool.id), active.get(pool.id)
        revision = None if pool.current_revision_id is None else current[pool.current_revision_id]
        return PoolOut(
            id=pool.id,
            name=pool.name,
            fleet=pool.fleet.name,
            model=pool.model,
            nodes=len(theirs),
            ready=sum(fleets.node_health(node, now, timeout_s) is NodeHealth.READY for node in theirs),
            in_sync=sum(fleets.in_sync(node) for node in theirs),
            frozen=None if pool.frozen_at is None else FrozenOut(at=pool.frozen_at, reason=pool.frozen_reason or ""),
            current_revision=None if revision is None else RevisionRef.of(revision),
            latest=None if latest is None else ObservationOut.of(latest),
            slo=SloOut.model_validate(policy.slo),
            breach_probability=None if decision is None else decision.breach_probability,
            error_budget=None if decision is None or decision.burn is None else ErrorBudgetOut.of(decision.burn),
            active_rollout=None if rollout is None else RolloutRef.model_validate(rollout),
            last_decision=None if decision is None else _decision_ref(decision),
        )

    return [out(pool) for pool in pools]


def pool_out(session: Session, pool: Pool, *, now: datetime, timeout_s: float) -> PoolOut:
    return pools_out(session, [pool], now=now, timeout_s=timeout_s)[0]


def fleet_out(session: Session, *, now: datetime, timeout_s: float) -> FleetOut:
    """All pools, and sums over them."""
    pools = pools_out(session, fleets.list_pools(session), now=now, timeout_s=timeout_s)
    frozen = fleets.general_freeze(session)
    fresh = [pool.latest for pool in pools if pool.latest is not None and _is_fresh(pool.latest, now)]
    return FleetOut(
        pools=pools,
        frozen=None if frozen is None else GeneralFreezeOut.model_validate(frozen),
        totals=Totals(
            nodes=sum(pool.nodes for pool in pools),
            ready=sum(pool.ready for pool in pools),
            tokens_per_s=sum(window.generation_tokens_per_s or 0.0 for window in fresh),
            requests_per_s=sum(window.offered_rps or 0.0 for window in fresh),
        ),
    )


def node_detail(
    node: Node | fleets.NodeView, latest: Observation | None, *, now: datetime, timeout_s: float
) -> NodeDetail:
    return NodeDetail(
        **NodeOut.fields_of(node, now=now, timeout_s=timeout_s),
        latest=None if latest is None else ObservationOut.of(latest),
    )


class ObservationTicks:
    """Tells the live stream which pools were observed anew since it last asked."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def __call__(self, session: Session) -> list[Message]:
        newest = session.scalar(select(func.max(ObservationRecord.id))) or 0
        before, self._seen = self._seen, newest
        if before is None or newest == before:
            return []
        query = select(ObservationRecord.pool_id).where(ObservationRecord.id > before).distinct()
        return [Message("tick", f'{{"pool_id":"{pool_id}"}}') for pool_id in session.scalars(query)]


def _decision_ref(row: LastDecision) -> DecisionRef:
    return DecisionRef(id=row.id, at=row.last_at, outcome=row.outcome, reason=row.reason, explanation=row.explanation)


def _is_fresh(window: ObservationOut, now: datetime) -> bool:
    return (now - window.window_end).total_seconds() <= _FRESH_WINDOWS * window.window_s
