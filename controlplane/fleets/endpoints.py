"""Freezing pools, one or all, their revisions, and the list of knobs."""

from dataclasses import asdict

from fastapi import APIRouter

from controlplane.accounts.dependencies import Operator, require
from controlplane.accounts.roles import Role
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.fleets import service
from controlplane.fleets.etags import pool_etag
from controlplane.fleets.schemas import FreezeIn, FrozenOut, GeneralFreezeOut, KnobOut, RevisionOut
from controlplane.idempotency.route import IdempotentRoute
from controlplane.paging import Paged
from controlplane.preconditions import IfMatch, check
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_int_cursor, encode_cursor
from inference_node.contract.settings import KNOBS

router = APIRouter(tags=["fleet"], route_class=IdempotentRoute)


@router.post("/pools/{pool_id}/freeze", status_code=201, responses=declared(401, 403, 404, 409, 412, 422))
def freeze_pool(
    pool_id: str, body: FreezeIn, who: Operator, session: WriteSession, now: Now, if_match: IfMatch = None
) -> FrozenOut:
    """Stops new changes to the pool, from the next tick on. Rollbacks stay possible."""
    pool = service.lock_pool(session, pool_id)
    check(if_match, pool_etag(pool), what=f"pool {pool.name}")
    service.freeze_pool(session, pool, reason=body.reason, actor=who.name, now=now)
    return FrozenOut(at=now, reason=body.reason)


@router.delete("/pools/{pool_id}/freeze", status_code=204, responses=declared(401, 403, 404, 412, 422))
def unfreeze_pool(pool_id: str, who: Operator, session: WriteSession, now: Now, if_match: IfMatch = None) -> None:
    """Lets changes to the pool happen again."""
    pool = service.lock_pool(session, pool_id)
    check(if_match, pool_etag(pool), what=f"pool {pool.name}")
    service.unfreeze_pool(session, pool, actor=who.name, now=now)


@router.post("/freeze", status_code=201, responses=declared(401, 403, 409, 422))
def freeze_everything(body: FreezeIn, who: Operator, session: WriteSession, now: Now) -> GeneralFreezeOut:
    """Stops new changes to every pool, also to those that are yet to come, from the next tick on. Rollouts under way pause;
    rollbacks stay possible. `GET /api/v1/system` shows it."""
    frozen = service.freeze_everything(session, reason=body.reason, actor=who.name, now=now)
    return GeneralFreezeOut.model_validate(frozen)


@router.delete("/freeze", status_code=204, responses=declared(401, 403))
def unfreeze_everything(who: Operator, session: WriteSession, now: Now) -> None:
    """Ends the freeze of everything. Pools that are frozen for themselves stay so."""
    service.unfreeze_everything(session, actor=who.name, now=now)


@router.get("/revisions", dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))
def list_revisions(
    pool_id: str, session: ReadSession, paged: Paged, cursor: Cursor = None, limit: Limit = 50
) -> Page[RevisionOut]:
    """A pool's settings revisions, newest first."""
    pool = service.get_pool(session, pool_id)
    rows = service.list_revisions(session, pool.id, limit=limit + 1, before_number=decode_int_cursor(cursor))
    page = [RevisionOut.model_validate(row) for row in rows[:limit]]
    return paged.page(page, encode_cursor(page[-1].number) if len(rows) > limit else None)


@router.get("/knobs", dependencies=[require(Role.VIEWER)], responses=declared(401, 403))
def list_knobs() -> Page[KnobOut]:
    """Every knob of `EngineSettings`: bounds, unit, and how a change is applied."""
    return Page(items=[KnobOut.model_validate(asdict(knob)) for knob in KNOBS.values()])
