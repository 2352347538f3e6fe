"""Rollouts in SQL: created, asked for by people, read back as snapshots. Phases are moved by the controller alone (`execute`)."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.decisions.policy import Policy
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool, SettingsRevision
from controlplane.ids import new_id
from controlplane.rollouts.models import Rollout, RolloutNode
from controlplane.rollouts.phases import NodeState, RolloutPhase
from controlplane.rollouts.plan import Candidate, Mode, RolloutPlan, make_plan
from controlplane.rollouts.words import changes_words
from inference_node.contract.settings import EngineSettings

P = RolloutPhase


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


def merged_settings(current: EngineSettings, wanted: dict[str, bool | int | float | str]) -> EngineSettings:
    """`current` with some knobs changed. Raises pydantic.ValidationError naming the knob."""
    return EngineSettings.model_validate(current.model_dump(mode="json") | wanted)


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
