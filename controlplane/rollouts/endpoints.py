"""Rollouts over HTTP: plan, begin, watch, and ask for pause, resume, promote, abort, rollback."""

from typing import Annotated

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from controlplane.accounts.dependencies import Operator, permit, require
from controlplane.accounts.roles import Identity, Role
from controlplane.decisions.policy import Policy
from controlplane.decisions.service import burn_warning, current_policy
from controlplane.dependencies import Now, ProcessSettings, ReadSession, WriteSession
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from controlplane.fleets.wanted import check_offered, wanted_settings
from controlplane.idempotency.route import IdempotentRoute
from controlplane.paging import Paged
from controlplane.preconditions import IfMatch, check
from controlplane.problem import declared
from controlplane.processes import shards
from controlplane.rollouts import service
from controlplane.rollouts.analysis_schemas import RolloutAnalysisOut, analysis_out
from controlplane.rollouts.ladder import ladder
from controlplane.rollouts.loading import load_snapshot
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.plan import RolloutPlan
from controlplane.rollouts.requests import request
from controlplane.rollouts.schemas import (
    PlannedNodeOut,
    PlanOut,
    RequestIn,
    RolloutIn,
    RolloutOut,
    RungOut,
    revision_short,
    rollout_etag,
    rollout_out,
)
from controlplane.schemas import Cursor, Limit, Page, decode_cursor, encode_cursor
from inference_node.contract.settings import EngineSettings

router = APIRouter(tags=["rollouts"], route_class=IdempotentRoute)

_VIEWER = [require(Role.VIEWER)]
_READ = declared(401, 403, 404, 422)
_CHANGE = declared(401, 403, 404, 409, 422, 503)


@router.get("/rollouts", dependencies=_VIEWER, responses=_READ)
def list_rollouts(
    session: ReadSession,
    paged: Paged,
    pool_id: str | None = None,
    active: bool | None = None,
    phase: RolloutPhase | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RolloutOut]:
    """Rollouts of all pools or one, newest first, without analyses and timeline. `phase=PENDING_APPROVAL` is the inbox."""
    if pool_id is not None:
        fleets.get_pool(session, pool_id)
    before = None if cursor is None else decode_cursor(cursor)
    rows = service.list_rollouts(
        session, limit=limit + 1, pool_id=pool_id, active=active, phase=phase, before_id=before
    )
    page = [rollout_out(session, row, whole=False) for row in rows[:limit]]
    return paged.page(page, encode_cursor(page[-1].id) if len(rows) > limit else None)


@router.get("/rollouts/{rollout_id}", dependencies=_VIEWER, responses=_READ)
def get_rollout(rollout_id: str, session: ReadSession, response: Response) -> RolloutOut:
    """One rollout, with its analyses and its timeline. The ETag changes with each move, request and vote."""
    row = service.get_rollout(session, rollout_id)
    response.headers["ETag"] = rollout_etag(session, row)
    return rollout_out(session, row, whole=True)


@router.get("/rollouts/{rollout_id}/analysis", dependencies=_VIEWER, responses=_READ)
def get_rollout_analysis(
    rollout_id: str, session: ReadSession, settings: ProcessSettings, now: Now
) -> RolloutAnalysisOut:
    """What the verdicts rest on: canary and control, window by window, and each look's samples, intervals, margins and power."""
    service.get_rollout(session, rollout_id)
    seen = load_snapshot(session, rollout_id, now=now, heartbeat_timeout_s=settings.heartbeat_timeout_s)
    assert seen is not None, "the rollout was there a moment ago, in the same snapshot"
    return analysis_out(session, seen)


@router.post("/rollouts", status_code=201, responses=_CHANGE)
def create_rollout(
    body: RolloutIn,
    who: Annotated[Identity, require(Role.OPERATOR, in_some_pool=True)],
    session: WriteSession,
    settings: ProcessSettings,
    now: Now,
    response: Response,
) -> RolloutOut | PlanOut:
    """Rolls out a change of settings, canary first; with `dry_run` it answers 200 and the plan."""
    permit(who, Role.OPERATOR, body.pool_id)
    pool = fleets.get_pool(session, body.pool_id)
    current = fleets.current_revision(session, pool)
    wanted = wanted_settings(fleets.settings_of(current), body.settings)
    check_offered(fleets.list_nodes(session, pool.id), wanted)
    policy, _ = current_policy(session, pool.id)
    if body.dry_run:
        response.status_code = 200
        plan = service.plan_for(session, pool, policy, now, settings.heartbeat_timeout_s)
        return _plan(session, pool, current, wanted, policy, plan)
    revision = fleets.create_revision(session, pool, wanted, created_by=who.name, reason=body.reason, now=now)
    rollout = service.create_rollout(
        session, pool=pool, to_revision=revision, decision_id=None, policy=policy, epoch=shards.epoch_of(session, pool.id),
        created_by=who.name, reason=body.reason, now=now, heartbeat_timeout_s=settings.heartbeat_timeout_s,
        not_before=body.not_before, least_approvals=int(body.propose),
    )  # fmt: skip
    response.headers["Location"] = f"/api/v1/rollouts/{rollout.id}"
    return rollout_out(session, rollout, whole=True)


def _verb_route(verb: Verb, summary: str) -> None:
    def ask(
        rollout_id: str,
        who: Operator,
        session: WriteSession,
        now: Now,
        response: Response,
        body: RequestIn | None = None,
        if_match: IfMatch = None,
    ) -> RolloutOut:
        row = service.lock_rollout(session, rollout_id)
        check(if_match, rollout_etag(session, row), what="the rollout")
        policy, _ = current_policy(session, row.pool_id)
        reason = "" if body is None else body.reason
        asked = request(
            session, rollout_id, verb, who.name, now=now, reason=reason, policy=policy,
            epoch=shards.epoch_of(session, row.pool_id),
        )  # fmt: skip
        response.headers["ETag"] = rollout_etag(session, asked)
        return rollout_out(session, asked, whole=True)

    ask.__doc__ = summary
    ask.__name__ = f"{verb.value}_rollout"
    router.post(f"/rollouts/{{rollout_id}}/{verb.value}", status_code=202, responses=_CHANGE | declared(412))(ask)


_verb_route(Verb.PAUSE, "Stops where it is, until it is resumed. Hard guards go on and may roll back.")
_verb_route(Verb.RESUME, "Goes on where it was paused.")
_verb_route(
    Verb.PROMOTE, "Goes on to the other nodes without waiting for the verdict; ends the watch when all have it."
)
_verb_route(Verb.ABORT, "Gives up: nodes that have the new settings get the old ones back. Beats every other request.")
_verb_route(
    Verb.ROLLBACK,
    "Under way: the same as abort. Completed: begins a new rollout straight back, also in a frozen pool, and answers with that.",
)


def _plan(
    session: Session,
    pool: Pool,
    current: SettingsRevision,
    wanted: EngineSettings,
    policy: Policy,
    plan: RolloutPlan,
) -> PlanOut:
    service.check_possible(session, pool, current, wanted.content_hash())
    names = {node.id: node.name for node in fleets.list_nodes(session, pool.id)}
    ids = [*plan.canary, *(node_id for wave in plan.waves for node_id in wave)]
    return PlanOut(
        pool_id=pool.id,
        pool=pool.name,
        from_revision=revision_short(current),
        settings=wanted,
        changes=fleets.settings_of(current).changed(wanted),
        steps=[
            RungOut.model_validate(rung).model_copy(update={"state": "pending"})
            for rung in ladder(plan, RolloutPhase.VALIDATING, 0)
        ],
        nodes=[
            PlannedNodeOut(node_id=id_, name=names[id_], role=plan.role_of(id_), wave=plan.wave_of(id_)) for id_ in ids
        ],
        canary_watch_s=plan.policy.settle_s + plan.policy.windows * plan.policy.window_s,
        notes=_notes(plan, policy, burn_warning(session, pool.id)),
    )


def _notes(plan: RolloutPlan, policy: Policy, warning: str | None) -> list[str]:
    notes = [] if warning is None else [warning]
    if not plan.control:
        notes.append(
            "The pool has one node: its canary can be compared with its own past only, so a change of load misleads."
        )
    elif len(plan.canary) == 1:
        notes.append(
            f"One node is compared with one other over {plan.policy.windows} windows of {plan.policy.window_s:g} s: "
            "small effects will stay inconclusive."
        )
    notes.append(f"When the comparison is inconclusive, the policy says: {policy.rollout.on_inconclusive.value}.")
    return notes
