"""Agreeing to a rollout or refusing it, and the way back to a revision that was good."""

from fastapi import APIRouter, Response
from pydantic import Field

from controlplane.accounts.dependencies import Approver, Operator, require
from controlplane.accounts.roles import Role
from controlplane.decisions.service import current_policy
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.fleets import service as fleets
from controlplane.fleets.etags import pool_etag
from controlplane.fleets.schemas import RevisionOut
from controlplane.idempotency.route import IdempotentRoute
from controlplane.preconditions import IfMatch, check
from controlplane.problem import declared
from controlplane.processes import shards
from controlplane.rollouts import approvals, service
from controlplane.rollouts.requests import roll_back_to
from controlplane.rollouts.schemas import RolloutOut, rollout_etag, rollout_out
from controlplane.schemas import Body, Page

router = APIRouter(tags=["rollouts"], route_class=IdempotentRoute)
_CHANGE = declared(401, 403, 404, 409, 412, 422)


class ApprovalIn(Body):
    settings_hash: str = Field(
        min_length=1, max_length=64, description="`to_revision.content_hash` of the rollout as you saw it"
    )
    comment: str = Field(default="", max_length=500)


class RollbackIn(Body):
    revision: int = Field(ge=1, le=2**31 - 1, description="number of one of the pool's last good revisions")
    reason: str = Field(min_length=1, max_length=500, description="why; it stands in the timeline")


@router.post("/rollouts/{rollout_id}/approve", responses=_CHANGE)
def approve_rollout(
    rollout_id: str, body: ApprovalIn, who: Approver, session: WriteSession, now: Now, if_match: IfMatch = None
) -> RolloutOut:
    """Agrees to the settings that the rollout brings. Nobody approves what they asked for; twice is once."""
    check(if_match, rollout_etag(session, service.lock_rollout(session, rollout_id)), what="the rollout")
    row = approvals.approve(
        session, rollout_id, who.name, settings_hash=body.settings_hash, now=now, comment=body.comment
    )
    return rollout_out(session, row, whole=True)


@router.post("/rollouts/{rollout_id}/refuse", responses=_CHANGE)
def refuse_rollout(
    rollout_id: str, body: ApprovalIn, who: Operator, session: WriteSession, now: Now, if_match: IfMatch = None
) -> RolloutOut:
    """Ends a rollout that has not begun, whoever has approved it."""
    check(if_match, rollout_etag(session, service.lock_rollout(session, rollout_id)), what="the rollout")
    row = approvals.refuse(
        session, rollout_id, who.name, settings_hash=body.settings_hash, now=now, comment=body.comment
    )
    return rollout_out(session, row, whole=True)


@router.get("/pools/{pool_id}/good-revisions", dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404))
def list_good_revisions(pool_id: str, session: ReadSession) -> Page[RevisionOut]:
    """The last revisions whose rollouts completed, newest first: going back to one of them needs no canary."""
    rows = service.last_good(session, fleets.get_pool(session, pool_id))
    return Page(items=[RevisionOut.model_validate(row) for row in rows])


@router.post("/pools/{pool_id}/rollback", status_code=201, responses=_CHANGE | declared(503))
def roll_back_pool(
    pool_id: str,
    body: RollbackIn,
    who: Operator,
    session: WriteSession,
    now: Now,
    response: Response,
    if_match: IfMatch = None,
) -> RolloutOut:
    """Straight back to a good revision, on all nodes at once, also while the pool is frozen."""
    pool = fleets.lock_pool(session, pool_id)
    check(if_match, pool_etag(pool), what=f"pool {pool.name}")
    policy, _ = current_policy(session, pool.id)
    rollout = roll_back_to(
        session, pool, body.revision, who.name, policy=policy, now=now, reason=body.reason,
        epoch=shards.epoch_of(session, pool.id),
    )  # fmt: skip
    response.headers["Location"] = f"/api/v1/rollouts/{rollout.id}"
    return rollout_out(session, rollout, whole=True)
