"""Fleet, pools, nodes and the system, as the web app and the command line show them."""

from typing import cast

from fastapi import APIRouter, Request, Response

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings, ReadSession
from controlplane.fleets import service as fleets
from controlplane.fleets.etags import node_etag, pool_etag
from controlplane.outside import Outside
from controlplane.overview import FleetOut, NodeDetail, PoolOut, fleet_out, node_detail, pool_out, pools_out
from controlplane.paging import LimitOrAll, Paged
from controlplane.problem import declared
from controlplane.schemas import Cursor, Page, decode_pair_cursor, decode_time_cursor, encode_cursor
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


@router.get("/pools", responses=declared(401, 403, 422))
def list_pools(
    session: ReadSession,
    settings: ProcessSettings,
    now: Now,
    paged: Paged,
    cursor: Cursor = None,
    limit: LimitOrAll = None,
) -> Page[PoolOut]:
    """Pools, oldest first."""
    after = decode_time_cursor(cursor)
    rows = fleets.list_pools(session, after=after, limit=None if limit is None else limit + 1)
    page = rows[:limit]
    items = pools_out(session, page, now=now, timeout_s=settings.heartbeat_timeout_s)
    more = len(rows) > len(page)
    return paged.page(items, encode_cursor(f"{page[-1].created_at.isoformat()} {page[-1].id}") if more else None)


@router.get("/pools/{pool_id}", responses=declared(401, 403, 404))
def get_pool(pool_id: str, session: ReadSession, settings: ProcessSettings, now: Now, response: Response) -> PoolOut:
    """One pool: its nodes in numbers, its newest window, SLO, rollout and last decision. The ETag changes with its freeze and
    its settings."""
    pool = fleets.get_pool(session, pool_id)
    response.headers["ETag"] = pool_etag(pool)
    return pool_out(session, pool, now=now, timeout_s=settings.heartbeat_timeout_s)


@router.get("/nodes", responses=declared(401, 403, 404, 422))
def list_nodes(
    session: ReadSession,
    settings: ProcessSettings,
    now: Now,
    paged: Paged,
    pool_id: str | None = None,
    cursor: Cursor = None,
    limit: LimitOrAll = None,
) -> Page[NodeDetail]:
    """Nodes of a pool or of all, by name: what is desired of each, what it has, and its newest window."""
    if pool_id is not None:
        fleets.get_pool(session, pool_id)
    timeout_s = settings.heartbeat_timeout_s
    after = decode_pair_cursor(cursor)
    rows = fleets.list_views(session, pool_id, after=after, limit=None if limit is None else limit + 1)
    page = rows[:limit]
    latest = telemetry.latest_of_nodes(session, [node.id for node in page])
    items = [node_detail(node, latest.get(node.id), now=now, timeout_s=timeout_s) for node in page]
    more = len(rows) > len(page)
    return paged.page(items, encode_cursor(f"{page[-1].name} {page[-1].id}") if more else None)


@router.get("/nodes/{node_id}", responses=declared(401, 403, 404))
def get_node(node_id: str, session: ReadSession, settings: ProcessSettings, now: Now, response: Response) -> NodeDetail:
    """One node. The ETag changes with its process, its desired settings and its quarantine."""
    node = fleets.get_node(session, node_id)
    response.headers["ETag"] = node_etag(node)
    latest = telemetry.latest(session, node.id)
    return node_detail(node, latest, now=now, timeout_s=settings.heartbeat_timeout_s)
