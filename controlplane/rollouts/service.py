"""Rollouts in SQL: created, asked for by people, read back as snapshots. Phases are moved by the controller alone (`execute`)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, aliased

from controlplane.db import insert_if_absent
from controlplane.decisions.policy import Autonomy, Policy
from controlplane.decisions.service import burn_warning
from controlplane.errors import Conflict, ControlPlaneError, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from controlplane.ids import new_id
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import WAITING, NodeState, RolloutPhase
from controlplane.rollouts.plan import Candidate, Mode, NoNodeReady, RolloutPlan, make_plan
from controlplane.rollouts.words import changes_words

P = RolloutPhase
CONTROLLER = "controller"  # `created_by` of what the controller decided by itself
# What the controller decides is about the load of now: without an approval in this time it is decided anew instead.
DECISION_KEEPS_S = 900.0
# A change that is planned farther ahead was planned for another world, or its year was mistyped.
FARTHEST_START = timedelta(days=92)
# How many revisions that were good count as known, so that going back to them needs no canary.
ROLLBACK_WINDOW = 3
# Ends that say of the new settings whether they are good.
_TRIED = (P.COMPLETED.value, P.ROLLED_BACK.value, P.ROLLBACK_FAILED.value)


class RolloutActive(Conflict):
    title = "A rollout is under way"


class PoolFrozen(Conflict):
    title = "The pool is frozen"


class NothingToChange(Invalid):
    title = "Nothing to change"


def create_rollout(
    session: Session,
    *,
    pool: Pool,
    to_revision: SettingsRevision,
    decision_id: str | None,
    policy: Policy,
    epoch: int,
    created_by: str,
    reason: str,
    now: datetime,
    heartbeat_timeout_s: float = 15.0,
    mode: Mode = Mode.CANARY,
    not_before: datetime | None = None,
    least_approvals: int = 0,
) -> Rollout:
    """A rollout of the pool from its current revision to `to_revision`, planned now and begun by the controller.

    mode direct is for what leads back, and for what `is_known`. It waits for `not_before`, for the approvals that
    `approvals_needed` or `least_approvals` asks for, and for the end of a freeze window. It takes the place of one that has not
    begun, where `may_supersede` allows. Raises RolloutActive, PoolFrozen (frozen by hand; never for what people lead back),
    NothingToChange, NoNodeReady, and Invalid for a start that is too far ahead.
    """
    current = fleets.current_revision(session, pool)
    check_possible(session, pool, current, to_revision.content_hash, mode, created_by=created_by)
    if not_before is not None and not_before > now + FARTHEST_START:
        raise Invalid(f"not_before: {not_before:%Y-%m-%d} is more than {FARTHEST_START.days} days ahead")
    waits_s = policy.rollout.start_within_s
    if created_by == CONTROLLER:
        waits_s = min(waits_s, DECISION_KEEPS_S)
    expires_at = (not_before or now) + timedelta(seconds=waits_s)
    changes = fleets.settings_of(current).changed(fleets.settings_of(to_revision))
    _supersede(session, pool, to_revision, created_by=created_by, now=now, epoch=epoch)
    plan = plan_for(session, pool, policy, now, heartbeat_timeout_s, mode)
    rollout_id = new_id()
    created = insert_if_absent(
        session, Rollout, id=rollout_id, pool_id=pool.id, active_pool_id=pool.id, decision_id=decision_id,
        from_revision_id=current.id, to_revision_id=to_revision.id, phase=P.VALIDATING.value, phase_since=now, version=1,
        epoch=epoch, step=0, plan=plan.to_json(), reason=reason, created_by=created_by, created_at=now,
        approvals_needed=0
        if mode is Mode.DIRECT
        else max(least_approvals, approvals_needed(policy, changes, created_by)),
        not_before=not_before, expires_at=expires_at,
    )  # fmt: skip
    if not created:  # another process was quicker, between the check above and here
        raise RolloutActive(f"another rollout of pool {pool.name!r} was begun just now: wait for its end, or abort it")
    _add_nodes(session, rollout_id, plan)
    for node in fleets.list_nodes(session, pool.id):
        if node.lease_s is not None:  # it would be compared with, or changed, under settings that are its own
            fleets.set_desired(session, node, current, epoch=epoch, now=now)
    words = changes_words(changes)
    by_hand = created_by != CONTROLLER and mode is Mode.CANARY
    warning = burn_warning(session, pool.id) if by_hand else None
    events.record(
        session, kind=EventKind.ROLLOUT_CREATED, at=now, actor=created_by, pool_id=pool.id, rollout_id=rollout_id,
        decision_id=decision_id,
        message=". ".join([f"Rollout of revision {to_revision.number} ({words}): {reason}", *filter(None, [warning])]),
        data={"from_revision": current.number, "to_revision": to_revision.number, "mode": plan.mode.value},
    )  # fmt: skip
    return session.get_one(Rollout, rollout_id)


def approvals_needed(policy: Policy, changes: Iterable[str], created_by: str) -> int:
    """How many people must agree: as many as the policy says, and one where the controller may only propose."""
    asks = created_by == CONTROLLER and any(policy.autonomy_of(knob) is not Autonomy.AUTO for knob in changes)
    return max(policy.rollout.approvals, int(asks))


def may_supersede(active: Rollout, created_by: str) -> bool:
    """Whether a change that `created_by` asks for may take its place: it waits, and is their own or the controller's."""
    return P(active.phase) in WAITING and active.created_by in {CONTROLLER, created_by}


def check_possible(
    session: Session,
    pool: Pool,
    current: SettingsRevision,
    wanted_hash: str,
    mode: Mode = Mode.CANARY,
    *,
    created_by: str = "",
) -> None:
    """Raises RolloutActive, PoolFrozen or NothingToChange."""
    if wanted_hash == current.content_hash:
        raise NothingToChange(f"pool {pool.name!r} runs these settings already, as revision {current.number}")
    active = active_rollout(session, pool.id)
    if active is not None and not may_supersede(active, created_by):
        raise RolloutActive(
            f"rollout {active.id} of pool {pool.name!r} is under way ({active.phase}): wait for its end, or abort it",
            rollout_id=active.id,
        )
    leads_back = mode is Mode.DIRECT and created_by != CONTROLLER
    frozen = None if leads_back else fleets.frozen_by_hand(session, pool)
    if frozen is not None:
        raise PoolFrozen(f"pool {pool.name!r} is frozen ({frozen}): unfreeze it first, or roll back")


def plan_for(
    session: Session, pool: Pool, policy: Policy, now: datetime, heartbeat_timeout_s: float, mode: Mode = Mode.CANARY
) -> RolloutPlan:
    """Raises NoNodeReady."""
    nodes = fleets.list_nodes(session, pool.id)
    health = {node.id: fleets.node_health(node, now, heartbeat_timeout_s) for node in nodes}
    found = [
        Candidate(
            node.id, node.name, health[node.id] is fleets.NodeHealth.READY and not fleets.is_quarantined(node, now)
        )
        for node in nodes
    ]
    return make_plan(found, policy, mode)


def replan(session: Session, rollout: Rollout, now: datetime, heartbeat_timeout_s: float = 15.0) -> None:
    """Plans a rollout that has waited anew, under the policy that it was made with. Without a ready node the old plan stays,
    whose canary is then found not ready."""
    old, pool = RolloutPlan.from_json(rollout.plan), fleets.get_pool(session, rollout.pool_id)
    try:
        plan = plan_for(session, pool, Policy(rollout=old.policy, slo=old.slo), now, heartbeat_timeout_s, old.mode)
    except NoNodeReady:
        return
    session.execute(delete(RolloutNode).where(RolloutNode.rollout_id == rollout.id))
    rollout.plan = plan.to_json()
    _add_nodes(session, rollout.id, plan)


def _supersede(
    session: Session, pool: Pool, to_revision: SettingsRevision, *, created_by: str, now: datetime, epoch: int
) -> None:
    """Ends the pool's rollout that has not begun yet, since a newer one takes its place."""
    before = active_rollout(session, pool.id)
    if before is None:
        return
    before = lock_rollout(session, before.id)
    if before.active_pool_id is None:
        return
    if not may_supersede(before, created_by):  # it has begun meanwhile
        raise RolloutActive(f"rollout {before.id} of pool {pool.name!r} has just begun: wait for its end, or abort it")
    source, text = before.phase, f"Nothing was changed: {created_by} asked for revision {to_revision.number} instead"
    before.phase, before.phase_since, before.version = P.SUPERSEDED.value, now, before.version + 1
    before.epoch, before.outcome, before.ended_at, before.active_pool_id = max(before.epoch, epoch), text, now, None
    session.flush()
    events.record(
        session, kind=EventKind.ROLLOUT_SUPERSEDED, at=now, actor=created_by, pool_id=pool.id, rollout_id=before.id,
        decision_id=before.decision_id, message=text, data={"from": source, "to": P.SUPERSEDED.value},
    )  # fmt: skip


def get_rollout(session: Session, rollout_id: str) -> Rollout:
    rollout = session.get(Rollout, rollout_id)
    if rollout is None:
        raise NotFound(f"there is no rollout with id {rollout_id!r}: GET /api/v1/rollouts lists them")
    return rollout


def lock_rollout(session: Session, rollout_id: str) -> Rollout:
    """The rollout as it stands now, held against other writers until the transaction ends."""
    query = select(Rollout).where(Rollout.id == rollout_id).with_for_update()
    rollout = session.scalar(query.execution_options(populate_existing=True))
    return rollout if rollout is not None else get_rollout(session, rollout_id)


def active_rollout(session: Session, pool_id: str) -> Rollout | None:
    return session.scalar(select(Rollout).where(Rollout.active_pool_id == pool_id))


def active_rollouts(session: Session) -> list[Rollout]:
    """Oldest first."""
    return list(session.scalars(select(Rollout).where(Rollout.active_pool_id.is_not(None)).order_by(Rollout.id)))


def is_urgent(rollout: Rollout) -> bool:
    """Whether others wait while it does: a person asked for something, or it leads back, or it is about to begin doing so."""
    return rollout.request is not None or P(rollout.phase) in {P.ROLLING_BACK, P.VALIDATING}


def last_good(session: Session, pool: Pool) -> list[SettingsRevision]:
    """The newest revisions whose rollouts completed, without the present one; newest first, ROLLBACK_WINDOW at most."""
    completed = (
        select(Rollout.to_revision_id, Rollout.from_revision_id)
        .where(Rollout.pool_id == pool.id, Rollout.phase == P.COMPLETED.value)
        .order_by(Rollout.ended_at.desc(), Rollout.id.desc())
        .limit(4 * ROLLBACK_WINDOW)
    )
    found: dict[str, SettingsRevision] = {}
    for pair in session.execute(completed):
        for revision_id in pair:  # what a completed one came from had been in force everywhere, too
            revision = fleets.get_revision(session, revision_id)
            if revision_id != pool.current_revision_id:
                found.setdefault(revision.content_hash, revision)
    return list(found.values())[:ROLLBACK_WINDOW]


def is_known(session: Session, pool: Pool, wanted_hash: str, policy: Policy, now: datetime) -> bool:
    """Whether these settings were in force on the whole pool within the policy's `known_for_s`, and nobody has led away from them
    since: they need no canary where every minute counts."""
    since = now - timedelta(seconds=policy.rollout.known_for_s)
    to, source = aliased(SettingsRevision), aliased(SettingsRevision)
    ended = (
        select(
            Rollout.phase, Rollout.plan["mode"].as_string(), Rollout.created_by, to.content_hash, source.content_hash
        )
        .join(to, to.id == Rollout.to_revision_id)
        .join(source, source.id == Rollout.from_revision_id)
        .where(Rollout.pool_id == pool.id, Rollout.ended_at > since, Rollout.phase.in_(_TRIED))
        .order_by(Rollout.ended_at.desc(), Rollout.id.desc())
    )
    for phase, mode, created_by, to_hash, from_hash in session.execute(ended):
        if to_hash == wanted_hash:
            return bool(phase == P.COMPLETED.value)
        if from_hash == wanted_hash and phase == P.COMPLETED.value:
            return not (mode == Mode.DIRECT.value and created_by != CONTROLLER)
    return False


def list_rollouts(
    session: Session,
    *,
    limit: int,
    pool_id: str | None = None,
    active: bool | None = None,
    phase: RolloutPhase | None = None,
    before_id: str | None = None,
) -> list[Rollout]:
    """Newest first, older than `before_id`."""
    query = select(Rollout).order_by(Rollout.id.desc()).limit(limit)
    if pool_id is not None:
        query = query.where(Rollout.pool_id == pool_id)
    if active is not None:
        query = query.where(Rollout.active_pool_id.is_not(None) if active else Rollout.active_pool_id.is_(None))
    if phase is not None:
        query = query.where(Rollout.phase == phase.value)
    if before_id is not None:
        query = query.where(Rollout.id < before_id)
    return list(session.scalars(query))


def _add_nodes(session: Session, rollout_id: str, plan: RolloutPlan) -> None:
    ids = [*plan.canary, *(node_id for wave in plan.waves for node_id in wave)]
    session.add_all(
        RolloutNode(
            rollout_id=rollout_id,
            node_id=node_id,
            role=plan.role_of(node_id).value,
            wave=plan.wave_of(node_id),
            state=NodeState.PENDING.value,
        )
        for node_id in ids
    )
    session.flush()


def note_not_begun(session: Session, pool_id: str, decision_id: str, error: ControlPlaneError, *, at: datetime) -> None:
    """Tells that a decision was made whose rollout could not begin, and why."""
    events.record(
        session, kind=EventKind.ROLLOUT_NOT_BEGUN, severity=Severity.WARNING, at=at, actor=CONTROLLER, pool_id=pool_id,
        decision_id=decision_id, data={"title": error.title},
        message=f"The decided change was not begun: {error.detail}",
    )  # fmt: skip
