"""Decisions with their reasons and their replay."""

from typing import Any

from fastapi import APIRouter

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.decisions import scaling, service
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.schemas import DecisionOut, ReplayOut, ScalingOut
from controlplane.dependencies import Now, ProcessSettings, ReadSession
from controlplane.errors import Conflict
from controlplane.fleets import service as fleets
from controlplane.idempotency.route import IdempotentRoute
from controlplane.paging import Paged
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_time_cursor, encode_cursor

router = APIRouter(tags=["decisions"], route_class=IdempotentRoute)

_VIEWER = [require(Role.VIEWER)]
_READ = declared(401, 403, 404, 422)


class ScalingUnknown(Conflict):
    title = "It is not known how many nodes are needed"


@router.get("/decisions", dependencies=_VIEWER, responses=_READ)
def list_decisions(
    session: ReadSession,
    paged: Paged,
    pool_id: str | None = None,
    outcome: Outcome | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DecisionOut]:
    """Decisions of all pools or one, newest first."""
    pools = {pool.id: pool.name for pool in fleets.list_pools(session)}
    if pool_id is not None:
        fleets.get_pool(session, pool_id)
    rows = service.list_decisions(
        session, limit=limit + 1, pool_id=pool_id, outcome=outcome, before=decode_time_cursor(cursor)
    )
    page = [DecisionOut.of(row, pools[row.pool_id]) for row in rows[:limit]]
    more = rows[limit - 1] if len(rows) > limit else None
    return paged.page(page, None if more is None else encode_cursor(f"{more.at.isoformat()} {more.id}"))


@router.get("/decisions/{decision_id}", dependencies=_VIEWER, responses=_READ)
def get_decision(decision_id: str, session: ReadSession) -> DecisionOut:
    """One decision, with what was weighed and what held it."""
    row = service.get_decision(session, decision_id)
    return DecisionOut.of(row, fleets.get_pool(session, row.pool_id).name)


@router.get("/decisions/{decision_id}/replay", dependencies=_VIEWER, responses=_READ)
def replay_decision(decision_id: str, session: ReadSession) -> ReplayOut:
    """Makes the decision again from its recorded inputs, and says whether it comes out the same. Changes nothing."""
    identical, again = service.replay(service.get_decision(session, decision_id))
    made: dict[str, Any] = again.to_json()
    return ReplayOut(identical=identical, decision=made)


@router.get("/pools/{pool_id}/scaling", dependencies=_VIEWER, responses=_READ | declared(409))
def get_scaling(pool_id: str, session: ReadSession, settings: ProcessSettings, now: Now) -> ScalingOut:
    """How many nodes the pool needs, for an autoscaler such as KEDA. 409 where it is not known: no number rather than a guess."""
    pool = fleets.get_pool(session, pool_id)
    found = scaling.advise(scaling.read_outlook(session, pool.id), now, settings.tick_s)
    if isinstance(found, str):
        raise ScalingUnknown(f"pool {pool.name}: {found}")
    return ScalingOut(
        pool=pool.name,
        nodes_wanted=found.nodes_wanted,
        nodes_ready=found.nodes_ready,
        planned_rps=found.planned_rps,
        node_rps=round(found.node_rps, 4),
        utilisation=scaling.UTILISATION,
        at=found.at,
    )
