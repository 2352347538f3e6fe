"""Rollouts in SQL: created, asked for by people, read back as snapshots. Phases are moved by the controller alone (`execute`)."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.decisions.policy import Policy
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node, Pool, SettingsRevision
from controlplane.ids import new_id
from controlplane.rollouts import windows
from controlplane.rollouts.analysis import Verdict
from controlplane.rollouts.models import Analysis, Rollout, RolloutNode
from controlplane.rollouts.phases import MOVES, NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.plan import Candidate, Mode, Role, RolloutPlan, make_plan
from controlplane.rollouts.snapshot import NodeView, RolloutSnapshot
from controlplane.rollouts.words import changes_words
from inference_node.contract.settings import EngineSettings

P = RolloutPhase
_PLANNED_LOOKS = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
_PROMOTABLE = {P.ANALYZING, P.BAKING}


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
) -> Rollout:
    """A rollout of the pool from its current revision to `to_revision`, planned now and begun by the controller.

    Raises RolloutActive, PoolFrozen (never for mode direct, which leads back), NothingToChange, NoNodeReady.
    """
    current = fleets.current_revision(session, pool)
    check_possible(session, pool, current, to_revision.content_hash, mode)
    plan = plan_for(session, pool, policy, now, heartbeat_timeout_s, mode)
    rollout_id = new_id()
    created = insert_if_absent(
        session, Rollout, id=rollout_id, pool_id=pool.id, active_pool_id=pool.id, decision_id=decision_id,
        from_revision_id=current.id, to_revision_id=to_revision.id, phase=P.VALIDATING.value, phase_since=now, version=1,
        epoch=epoch, step=0, plan=plan.to_json(), reason=reason, created_by=created_by, created_at=now,
    )  # fmt: skip
    if not created:  # another process was quicker, between the check above and here
        raise RolloutActive(f"another rollout of pool {pool.name!r} was begun just now: wait for its end, or abort it")
    _add_nodes(session, rollout_id, plan)
    words = changes_words(fleets.settings_of(current).changed(fleets.settings_of(to_revision)))
    events.record(
        session, kind=EventKind.ROLLOUT_CREATED, at=now, actor=created_by, pool_id=pool.id, rollout_id=rollout_id,
        decision_id=decision_id, message=f"Rollout of revision {to_revision.number} ({words}): {reason}",
        data={"from_revision": current.number, "to_revision": to_revision.number, "mode": plan.mode.value},
    )  # fmt: skip
    return session.get_one(Rollout, rollout_id)


def check_possible(
    session: Session, pool: Pool, current: SettingsRevision, wanted_hash: str, mode: Mode = Mode.CANARY
) -> None:
    """Raises RolloutActive, PoolFrozen or NothingToChange."""
    if wanted_hash == current.content_hash:
        raise NothingToChange(f"pool {pool.name!r} runs these settings already, as revision {current.number}")
    active = active_rollout(session, pool.id)
    if active is not None:
        raise RolloutActive(
            f"rollout {active.id} of pool {pool.name!r} is under way ({active.phase}): wait for its end, or abort it",
            rollout_id=active.id,
        )
    if pool.frozen_at is not None and mode is not Mode.DIRECT:
        raise PoolFrozen(f"pool {pool.name!r} is frozen ({pool.frozen_reason}): unfreeze it first, or roll back")


def plan_for(
    session: Session, pool: Pool, policy: Policy, now: datetime, heartbeat_timeout_s: float, mode: Mode = Mode.CANARY
) -> RolloutPlan:
    """Raises NoNodeReady."""
    nodes = fleets.list_nodes(session, pool.id)
    health = {node.id: fleets.node_health(node, now, heartbeat_timeout_s) for node in nodes}
    found = [Candidate(node.id, node.name, health[node.id] is fleets.NodeHealth.READY) for node in nodes]
    return make_plan(found, policy, mode)


def request(
    session: Session,
    rollout_id: str,
    verb: Verb,
    actor: str,
    *,
    now: datetime,
    reason: str = "",
    policy: Policy | None = None,
    epoch: int = 0,
) -> Rollout:
    """Leaves a person's wish for the controller, which meets it within a second. Abort beats whatever was asked before.

    ROLLBACK of a rollout that is under way aborts it. Of one that has completed it makes a new rollout, straight back to its
    from-revision without canary, and returns that one; it needs `policy`. Raises NotFound, Conflict.
    """
    rollout = lock_rollout(session, rollout_id)
    phase = P(rollout.phase)
    if verb is Verb.ROLLBACK and phase is P.COMPLETED:
        return _roll_back_completed(session, rollout, actor, now, reason, policy or Policy(), epoch)
    if phase.is_terminal:
        raise Conflict(f"the rollout has ended ({phase.value}): there is nothing left to {verb.value}")
    if phase is P.ROLLING_BACK:
        raise Conflict("the rollout is being rolled back already")
    giving_up = {Verb.ABORT, Verb.ROLLBACK}
    if rollout.request in giving_up and verb not in giving_up:
        raise Conflict(f"{rollout.request_actor} has asked to {rollout.request} the rollout, which comes first")
    _check_verb(verb, phase, None if rollout.paused_from is None else P(rollout.paused_from))
    rollout.request, rollout.request_actor, rollout.request_reason = verb.value, actor, reason or None
    session.flush()
    words = f"{actor} asked to {verb.value}" + (f": {reason}" if reason else "")
    events.record(
        session, kind=EventKind.ROLLOUT_REQUESTED, message=words, at=now, actor=actor,
        pool_id=rollout.pool_id, rollout_id=rollout.id, decision_id=rollout.decision_id, data={"verb": verb.value},
    )  # fmt: skip
    return rollout


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
    return list(session.scalars(select(Rollout).where(Rollout.active_pool_id.is_not(None)).order_by(Rollout.id)))


def list_rollouts(
    session: Session,
    *,
    limit: int,
    pool_id: str | None = None,
    active: bool | None = None,
    before_id: str | None = None,
) -> list[Rollout]:
    """Newest first, older than `before_id`."""
    query = select(Rollout).order_by(Rollout.id.desc()).limit(limit)
    if pool_id is not None:
        query = query.where(Rollout.pool_id == pool_id)
    if active is not None:
        query = query.where(Rollout.active_pool_id.is_not(None) if active else Rollout.active_pool_id.is_(None))
    if before_id is not None:
        query = query.where(Rollout.id < before_id)
    return list(session.scalars(query))


def ended_since(session: Session, pool_id: str, since: datetime) -> list[Rollout]:
    """Rollouts of the pool that were created or ended since then, oldest first: what cooldowns and budgets count."""
    query = select(Rollout).where(
        Rollout.pool_id == pool_id, (Rollout.created_at >= since) | (Rollout.ended_at >= since)
    )
    return list(session.scalars(query.order_by(Rollout.id)))


def load_snapshot(
    session: Session, rollout_id: str, *, now: datetime, heartbeat_timeout_s: float
) -> RolloutSnapshot | None:
    """What `reconcile()` needs; None when the rollout is not there. Reads only."""
    row = session.get(Rollout, rollout_id)
    if row is None:
        return None
    pool = fleets.get_pool(session, row.pool_id)
    plan = RolloutPlan.from_json(row.plan)
    old, new = (fleets.get_revision(session, id_) for id_ in (row.from_revision_id, row.to_revision_id))
    parts = session.execute(
        select(RolloutNode, Node).join(Node, Node.id == RolloutNode.node_id).where(RolloutNode.rollout_id == row.id)
    ).all()
    views = tuple(
        sorted(
            (_view(part, node, now, heartbeat_timeout_s) for part, node in parts),
            key=lambda view: (view.wave, view.name),
        )
    )
    arms = {*plan.canary, *plan.control}
    steady = [
        at for _, node in parts if node.id in arms for at in (node.started_at, node.desired_since) if at is not None
    ]
    snapshot = RolloutSnapshot(
        id=row.id,
        phase=P(row.phase),
        phase_since=row.phase_since,
        version=row.version,
        step=row.step,
        plan=plan,
        from_hash=old.content_hash,
        to_hash=new.content_hash,
        from_number=old.number,
        to_number=new.number,
        changes=changes(old, new),
        nodes=views,
        steady_since=max(steady, default=row.created_at),
        looks=_count_looks(session, row.id),
        request=None if row.request is None else Verb(row.request),
        request_actor=row.request_actor or "",
        request_reason=row.request_reason or "",
        paused_from=None if row.paused_from is None else P(row.paused_from),
        paused_by=None if row.paused_by is None else PausedBy(row.paused_by),
        frozen_reason=None if pool.frozen_at is None else (pool.frozen_reason or "no reason given"),
    )
    found = windows.load(
        session, row.id, judged_from=snapshot.judged_from, now=now,
        window_s=plan.policy.window_s, windows=plan.policy.windows,
    )  # fmt: skip
    return snapshot.with_windows(found)


def changes(
    old: SettingsRevision, new: SettingsRevision
) -> dict[str, tuple[bool | int | float | str, bool | int | float | str]]:
    """Knobs that the rollout changes, as name -> (from, to)."""
    return fleets.settings_of(old).changed(fleets.settings_of(new))


def merged_settings(current: EngineSettings, wanted: dict[str, bool | int | float | str]) -> EngineSettings:
    """`current` with some knobs changed. Raises pydantic.ValidationError naming the knob."""
    return EngineSettings.model_validate(current.model_dump(mode="json") | wanted)


def _roll_back_completed(
    session: Session, done: Rollout, actor: str, now: datetime, reason: str, policy: Policy, epoch: int
) -> Rollout:
    pool = fleets.get_pool(session, done.pool_id)
    current = fleets.current_revision(session, pool)
    if current.id != done.to_revision_id:
        raise Conflict(
            f"pool {pool.name!r} runs revision {current.number} by now, not the one of this rollout: "
            "roll back the rollout that brought it, or start a new one"
        )
    back = fleets.get_revision(session, done.from_revision_id)
    why = f"{actor} rolled back rollout {done.id}" + (f": {reason}" if reason else "")
    return create_rollout(
        session, pool=pool, to_revision=back, decision_id=None, policy=policy, epoch=epoch,
        created_by=actor, reason=why, now=now, mode=Mode.DIRECT,
    )  # fmt: skip


def _check_verb(verb: Verb, phase: RolloutPhase, paused_from: RolloutPhase | None) -> None:
    if verb is Verb.PAUSE and phase is P.PAUSED:
        raise Conflict("the rollout is paused already")
    if verb is Verb.RESUME and phase is not P.PAUSED:
        raise Conflict(f"the rollout is not paused but {phase.value}")
    if verb is Verb.PROMOTE and phase not in _PROMOTABLE:
        judged = phase is P.PAUSED and paused_from in {P.ANALYZING, P.PROMOTING, P.BAKING}
        if not judged:
            raise Conflict(
                f"the rollout is {phase.value}: it can be promoted once its canary runs the new settings"
                if P.PROMOTING in MOVES[phase] or phase in {P.BASELINING, P.CANARY, P.PAUSED}
                else f"the rollout is {phase.value}: there is nothing left to promote"
            )


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


def _view(part: RolloutNode, node: Node, now: datetime, timeout_s: float) -> NodeView:
    health = fleets.node_health(node, now, timeout_s)
    return NodeView(
        id=node.id,
        name=node.name,
        role=Role(part.role),
        wave=part.wave,
        state=NodeState(part.state),
        generation=part.generation,
        dispatched_at=part.dispatched_at,
        applied_at=part.applied_at,
        instance_at_dispatch=part.instance_id,
        instance_id=node.instance_id,
        reachable=health is not fleets.NodeHealth.UNREACHABLE,
        ready=health is fleets.NodeHealth.READY,
        observed_generation=node.observed_generation,
        observed_hash=node.observed_hash,
        rejected_generation=node.rejected_generation,
        rejected_reason=node.rejected_reason,
    )


def _count_looks(session: Session, rollout_id: str) -> int:
    query = (
        select(func.count())
        .select_from(Analysis)
        .where(Analysis.rollout_id == rollout_id, Analysis.verdict.in_([verdict.value for verdict in _PLANNED_LOOKS]))
    )
    return session.scalar(query) or 0
