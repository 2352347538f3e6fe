"""Fleet, pools, nodes and the system, as the web app and the command line show them."""

from typing import cast

from fastapi import APIRouter, Request

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings, ReadSession
from controlplane.fleets import service as fleets
from controlplane.outside import Outside
from controlplane.overview import FleetOut, NodeDetail, PoolOut, fleet_out, node_detail, pool_out
from controlplane.problem import declared
from controlplane.schemas import Page
from controlplane.system import SystemOut, system_out
from controlplane.telemetry import service as telemetry

router = APIRouter(tags=["overview"], dependencies=[require(Role.VIEWER)])


@router.get("/system", responses=declared(401, 403))
def get_system(request: Request, engine: DatabaseEngine, now: Now) -> SystemOut:
    """How the control plane itself is."""
    outside = cast(Outside, request.app.state.outside)
    prometheus, redis = outside.prometheus(), outside.redis()
    with session_scope(engine, read_only=True) as session:
        return system_out(session, version=request.app.version, prometheus=prometheus, redis=redis, now=now)


@router.get("/fleet", responses=declared(401, 403))
def get_fleet(session: ReadSession, settings: ProcessSettings, now: Now) -> FleetOut:
    """All pools with what matters of each, and totals."""
    return fleet_out(session, now=now, timeout_s=settings.heartbeat_timeout_s)


@router.get("/pools", responses=declared(401, 403))
def list_pools(session: ReadSession, settings: ProcessSettings, now: Now) -> Page[PoolOut]:
    """All pools, oldest first."""
    timeout_s = settings.heartbeat_timeout_s
    return Page(items=[pool_out(session, p, now=now, timeout_s=timeout_s) for p in fleets.list_pools(session)])


@router.get("/pools/{pool_id}", responses=declared(401, 403, 404))
def get_pool(pool_id: str, session: ReadSession, settings: ProcessSettings, now: Now) -> PoolOut:
    """One pool: its nodes in numbers, its newest window, SLO, rollout and last decision."""
    pool = fleets.get_pool(session, pool_id)
    return pool_out(session, pool, now=now, timeout_s=settings.heartbeat_timeout_s)


@router.get("/nodes", responses=declared(401, 403, 404))
def list_nodes(
    session: ReadSession, settings: ProcessSettings, now: Now, pool_id: str | None = None
) -> Page[NodeDetail]:
    """Nodes of a pool or of all, by name: what is desired of each, what it has, and its newest window."""
    if pool_id is not None:
        fleets.get_pool(session, pool_id)
    timeout_s = settings.heartbeat_timeout_s
    nodes = fleets.list_nodes(session, pool_id)
    return Page(items=[node_detail(n, telemetry.latest(session, n.id), now=now, timeout_s=timeout_s) for n in nodes])


@router.get("/nodes/{node_id}", responses=declared(401, 403, 404))
def get_node(node_id: str, session: ReadSession, settings: ProcessSettings, now: Now) -> NodeDetail:
    """One node."""
    node = fleets.get_node(session, node_id)
    latest = telemetry.latest(session, node.id)
    return node_detail(node, latest, now=now, timeout_s=settings.heartbeat_timeout_s)
