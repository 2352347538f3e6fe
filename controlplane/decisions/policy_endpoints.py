"""The policy of a pool: read, changed, its history, its description for forms, and a trial on the past."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from controlplane.accounts.dependencies import Operator, require
from controlplane.accounts.roles import Role
from controlplane.decisions import policies, trial
from controlplane.decisions.policy import Policy
from controlplane.decisions.policy_schemas import (
    PolicyOut,
    PolicySchemaOut,
    PolicyTrialIn,
    PolicyTrialOut,
    PolicyVersionOut,
    TrialDifferenceOut,
)
from controlplane.decisions.service import count_since, decisions_since
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.errors import Invalid, PreconditionMissing
from controlplane.fleets import service as fleets
from controlplane.idempotency.route import IdempotentRoute
from controlplane.problem import declared
from controlplane.schemas import Page
from inference_node.contract.settings import EngineSettings

router = APIRouter(tags=["policies"], route_class=IdempotentRoute)

_VIEWER = [require(Role.VIEWER)]
_OPERATOR = [require(Role.OPERATOR)]
_READ = declared(401, 403, 404, 422)
# A trial answers within what a person waits for.
TRIAL_S = 5.0
_VERSIONS = 50


@router.get("/policy-schema", dependencies=_VIEWER, responses=declared(401, 403))
def get_policy_schema() -> PolicySchemaOut:
    """What a policy may say, as JSON Schema, and its defaults."""
    return PolicySchemaOut(document_schema=Policy.model_json_schema(), defaults=Policy())


@router.get("/pools/{pool_id}/policy", dependencies=_VIEWER, responses=_READ)
def get_policy(pool_id: str, session: ReadSession, response: Response) -> PolicyOut:
    """The policy in force. Its ETag goes into `If-Match` of a change."""
    pool = fleets.get_pool(session, pool_id)
    policy, version = policies.current_policy(session, pool.id)
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
    policy, version = policies.put_policy(
        session, pool.id, document, based_on=_version(if_match), actor=who.name, now=now
    )
    response.headers["ETag"] = _etag(version)
    return PolicyOut(version=version, document=policy)


@router.get("/pools/{pool_id}/policies", dependencies=_VIEWER, responses=_READ)
def list_policies(pool_id: str, session: ReadSession) -> Page[PolicyVersionOut]:
    """The last fifty versions of the pool's policy, newest first: who set what, and when."""
    rows = policies.list_versions(session, fleets.get_pool(session, pool_id).id, limit=_VERSIONS)
    return Page(items=[PolicyVersionOut.model_validate(row) for row in rows])


@router.post("/pools/{pool_id}/policy/dry-run", dependencies=_OPERATOR, responses=_READ)
def try_policy(pool_id: str, body: PolicyTrialIn, session: ReadSession, now: Now) -> PolicyTrialOut:
    """What the decisions of the last hours would have been under this policy. Changes nothing.

    Each decision is made again from its own recorded inputs, so what an earlier change would have led to is not in it.
    """
    pool = fleets.get_pool(session, pool_id)
    _, version = policies.current_policy(session, pool.id)
    since = trial.since_of(now, body.hours)
    found = trial.try_policy(decisions_since(session, pool.id, since), body.document, version + 1, limit_s=TRIAL_S)
    return PolicyTrialOut(
        since=since,
        decisions=count_since(session, pool.id, since),
        looked_at=found.looked_at,
        proposed=found.proposed,
        would_propose=found.would_propose,
        differing=found.differing,
        differences=[_difference(each) for each in found.differences],
    )


def _difference(found: trial.Difference) -> TrialDifferenceOut:
    record, would = found.record, found.would
    made = would.to_json()
    return TrialDifferenceOut(
        decision_id=record.id,
        at=record.last_at,
        outcome=record.outcome,
        reason=record.reason,
        changes=_changes(record.previous, record.chosen),
        would_outcome=made["outcome"],
        would_reason=made["reason"],
        would_change=_changes(made["previous"], made["chosen"]),
        would_explanation=made["explanation"],
    )


def _changes(previous: dict[str, Any], chosen: dict[str, Any] | None) -> dict[str, Any]:
    if chosen is None:
        return {}
    changed = EngineSettings.model_validate(previous).changed(EngineSettings.model_validate(chosen))
    return {knob: list(pair) for knob, pair in changed.items()}


def _etag(version: int) -> str:
    return f'"{version}"'


def _version(if_match: str) -> int:
    found = re.fullmatch(r'"(\d{1,9})"', if_match.strip())
    if found is None:
        raise Invalid(f'`If-Match` must be the ETag that GET handed out, like "3"; got {if_match[:40]}')
    return int(found.group(1))
