"""What people ask of a rollout: checked at once, kept with it, and met by the controller within a second."""

from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.decisions.policy import Policy
from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Pool
from controlplane.rollouts import service
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import RolloutPhase, Verb
from controlplane.rollouts.plan import Mode

P = RolloutPhase
_PROMOTABLE = {P.ANALYZING, P.BAKING}
_JUDGED = {P.ANALYZING, P.PROMOTING, P.BAKING}


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
    rollout = service.lock_rollout(session, rollout_id)
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


def roll_back_to(
    session: Session, pool: Pool, number: int, actor: str, *, policy: Policy, now: datetime, reason: str, epoch: int
) -> Rollout:
    """Straight to one of the last good revisions, on all nodes at once and without canary, also in a frozen pool.

    Raises NotFound for a revision that does not exist, Conflict for one outside the window or a rollout under way.
    """
    window = service.last_good(session, pool)
    wanted = next((revision for revision in window if revision.number == number), None)
    if wanted is None:
        known = ", ".join(str(revision.number) for revision in window) or "none yet"
        raise Conflict(
            f"revision {number} is not among the last good ones of pool {pool.name!r} ({known}): "
            "roll its settings out with a canary instead"
        )
    why = f"{actor} rolled back to revision {number}" + (f": {reason}" if reason else "")
    return service.create_rollout(
        session, pool=pool, to_revision=wanted, decision_id=None, policy=policy, epoch=epoch,
        created_by=actor, reason=why, now=now, mode=Mode.DIRECT,
    )  # fmt: skip


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
    return service.create_rollout(
        session, pool=pool, to_revision=back, decision_id=None, policy=policy, epoch=epoch,
        created_by=actor, reason=why, now=now, mode=Mode.DIRECT,
    )  # fmt: skip


def _check_verb(verb: Verb, phase: RolloutPhase, paused_from: RolloutPhase | None) -> None:
    if verb is Verb.PAUSE and phase is P.PAUSED:
        raise Conflict("the rollout is paused already")
    if verb is Verb.RESUME and phase is not P.PAUSED:
        raise Conflict(f"the rollout is not paused but {phase.value}")
    if verb is Verb.PROMOTE and phase not in _PROMOTABLE and not (phase is P.PAUSED and paused_from in _JUDGED):
        when = "it can be promoted once its canary runs the new settings"
        if phase is P.PROMOTING:
            when = "it is on its way to the other nodes already"
        raise Conflict(f"the rollout is {phase.value}: {when}")
