"""Decisions with their reasons, their replay, and the policy of a pool."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from controlplane.accounts.dependencies import Operator, require
from controlplane.accounts.roles import Role
from controlplane.decisions import service
from controlplane.decisions.policy import Policy
from controlplane.decisions.reasons import Outcome
from controlplane.decisions.schemas import DecisionOut, PolicyOut, ReplayOut
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.errors import Invalid, PreconditionMissing
from controlplane.fleets import service as fleets
from controlplane.idempotency.route import IdempotentRoute
from controlplane.paging import Paged
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_time_cursor, encode_cursor

router = APIRouter(tags=["decisions"], route_class=IdempotentRoute)

_VIEWER = [require(Role.VIEWER)]
_READ = declared(401, 403, 404, 422)


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


@router.get("/pools/{pool_id}/policy", dependencies=_VIEWER, responses=_READ)
def get_policy(pool_id: str, session: ReadSession, response: Response) -> PolicyOut:
    """The policy in force. Its ETag goes into `If-Match` of a change."""
    pool = fleets.get_pool(session, pool_id)
    policy, version = service.current_policy(session, pool.id)
    response.headers["ETag"] = _etag(version)
    return PolicyOut(version=version, document=policy)


@router.put("/pools/{pool_id}/policy", responses=declared(401, 403, 404, 412, 422, 428))
def put_policy(
    pool_id: str,
    document: Policy,
    who: Operator,
    session: WriteSession,
    now: Now,
    response: Response,
    if_match: Annotated[str | None, Header(description="the ETag that this change was made from")] = None,
) -> PolicyOut:
    """Sets the policy as a whole, as a new version. Sections that are left out take their defaults."""
    if if_match is None:
        raise PreconditionMissing(
            "send the ETag of the policy that you read as `If-Match`, so that no change gets lost"
        )
    pool = fleets.get_pool(session, pool_id)
    policy, version = service.put_policy(
        session, pool.id, document, based_on=_version(if_match), actor=who.name, now=now
    )
    response.headers["ETag"] = _etag(version)
    return PolicyOut(version=version, document=policy)


def _etag(version: int) -> str:
    return f'"{version}"'


def _version(if_match: str) -> int:
    found = re.fullmatch(r'"(\d{1,9})"', if_match.strip())
    if found is None:
        raise Invalid(f'`If-Match` must be the ETag that GET handed out, like "3"; got {if_match[:40]}')
    return int(found.group(1))
