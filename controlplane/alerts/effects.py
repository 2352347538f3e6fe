"""What alerts set off, and its lifting. An alert lifts what it set itself, and only while no other alert wants it kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.alerts.models import Action, Alert, AlertEffect, AlertRule, EffectState
from controlplane.decisions.policies import current_policy
from controlplane.errors import ControlPlaneError
from controlplane.fleets import service as fleets
from controlplane.processes import shards
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.models import Rollout
from controlplane.rollouts.phases import PausedBy, RolloutPhase, Verb
from controlplane.rollouts.requests import request

# An alert blames what came shortly before it. Longer ago, another cause is likelier, and going back would be a guess.
BLAMED_FOR = timedelta(hours=1)
_IN_FORCE = (EffectState.SET, EffectState.JOINED)


def actor_of(alert: Alert) -> str:
    """Under which name it stands in the history: no user can be called so."""
    return f"alert:{alert.name}"[:100] + f":{alert.fingerprint[:12]}"


def apply(session: Session, alert: Alert, rule: AlertRule, pool_id: str, now: datetime) -> AlertEffect:
    """Does what the rule says in the pool, or notes why it was not possible."""
    effect = AlertEffect(
        alert_id=alert.id, rule_id=rule.id, rule_name=rule.name, action=rule.action, pool_id=pool_id,
        state=EffectState.NONE, at=now, detail="",
    )  # fmt: skip
    session.add(effect)
    try:
        with session.begin_nested():
            match Action(rule.action):
                case Action.FREEZE:
                    _freeze(session, alert, effect, now)
                case Action.PAUSE:
                    _pause(session, alert, effect, now)
                case Action.ROLL_BACK:
                    _roll_back(session, alert, effect, now)
                case Action.PROTECT:
                    _protect(session, alert, effect, now)
    except ControlPlaneError as error:
        effect.state, effect.detail = EffectState.NONE, error.detail
    session.flush()
    return effect


def lift(session: Session, alert: Alert, now: datetime) -> list[AlertEffect]:
    """Takes back what this alert set, unless a person has changed it since or another alert wants it kept."""
    mine = select(AlertEffect).where(AlertEffect.alert_id == alert.id, AlertEffect.state.in_(_IN_FORCE))
    found = list(session.scalars(mine.order_by(AlertEffect.id)))
    for effect in found:
        was_set = effect.state == EffectState.SET
        effect.state, effect.lifted_at = EffectState.LIFTED, now
        session.flush()
        if not was_set:
            effect.detail += "; resolved: what another alert set stays with that one"
        elif effect.action == Action.FREEZE:
            _unfreeze(session, alert, effect, now)
        elif effect.action == Action.PROTECT:
            fleets.silence_alarm(session, effect.id)
            effect.detail += "; resolved: decisions go by the pool's own figures again"
        else:
            _resume(session, alert, effect, now)
    session.flush()
    return found


def repeat(session: Session, alert: Alert, now: datetime) -> None:
    """The alert still fires: what ends by itself lasts on."""
    mine = select(AlertEffect.id).where(AlertEffect.alert_id == alert.id, AlertEffect.action == Action.PROTECT)
    if kept := list(session.scalars(mine.where(AlertEffect.state == EffectState.SET))):
        fleets.repeat_alarms(session, kept, now)


def _protect(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    """Each alert has an alarm of its own, so that none need inherit another's."""
    assert effect.pool_id is not None
    pool = fleets.get_pool(session, effect.pool_id)
    session.flush()
    fleets.sound_alarm(session, effect.id, pool.id, reason=_reason(alert), now=now)
    effect.state, effect.detail = EffectState.SET, f"asks for the protection of pool {pool.name}"


def _freeze(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    assert effect.pool_id is not None
    pool = fleets.lock_pool(session, effect.pool_id)
    if pool.frozen_at is None:
        fleets.freeze_pool(session, pool, reason=_reason(alert), actor=actor_of(alert), now=now)
        effect.state, effect.frozen_at, effect.detail = EffectState.SET, now, f"froze pool {pool.name}"
        return
    effect.frozen_at, effect.detail = pool.frozen_at, f"pool {pool.name} was frozen already: {pool.frozen_reason}"
    if any(other.frozen_at == pool.frozen_at for other in _others(session, effect)):
        effect.state = EffectState.JOINED


def _unfreeze(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    assert effect.pool_id is not None
    pool = fleets.lock_pool(session, effect.pool_id)
    if pool.frozen_at is None or pool.frozen_at != effect.frozen_at:
        effect.detail += "; resolved: somebody has changed the freeze since, so it is theirs"
        return
    heirs = [other for other in _others(session, effect) if other.frozen_at == pool.frozen_at]
    if heirs:
        heirs[0].state = EffectState.SET
        effect.detail += "; resolved: another alert still wants it frozen"
        return
    fleets.unfreeze_pool(session, pool, actor=actor_of(alert), now=now)
    effect.detail += "; resolved: it may change again"


def _pause(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    assert effect.pool_id is not None
    active = rollouts.active_rollout(session, effect.pool_id)
    if active is None:
        effect.detail = "no rollout is under way"
        return
    rollout = rollouts.lock_rollout(session, active.id)
    effect.rollout_id = rollout.id
    for other in _others(session, effect):
        if other.rollout_id == rollout.id and other.holder is not None and _is_held_by(rollout, other.holder):
            effect.state, effect.holder = EffectState.JOINED, other.holder
            effect.detail = f"rollout {rollout.id} was paused already by {other.holder}"
            return
    request(session, rollout.id, Verb.PAUSE, actor_of(alert), now=now, reason=_reason(alert))
    effect.state, effect.holder = EffectState.SET, actor_of(alert)
    effect.detail = f"asked to pause rollout {rollout.id}"


def _resume(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    assert effect.rollout_id is not None
    assert effect.holder is not None
    rollout = rollouts.lock_rollout(session, effect.rollout_id)
    if not _is_held_by(rollout, effect.holder):
        effect.detail += "; resolved: the pause is no longer this alert's"
        return
    heirs = [other for other in _others(session, effect) if other.rollout_id == rollout.id]
    if heirs:
        heirs[0].state, heirs[0].holder = EffectState.SET, effect.holder
        effect.detail += "; resolved: another alert still wants it paused"
        return
    if rollout.phase != RolloutPhase.PAUSED:
        rollout.request = rollout.request_actor = rollout.request_reason = None  # not met yet, and no longer wanted
    else:
        request(session, rollout.id, Verb.RESUME, actor_of(alert), now=now, reason="the alert is resolved")
    effect.detail += "; resolved: it goes on"


def _roll_back(session: Session, alert: Alert, effect: AlertEffect, now: datetime) -> None:
    assert effect.pool_id is not None
    rollout = rollouts.active_rollout(session, effect.pool_id) or _blamed(session, effect.pool_id, now)
    if rollout is None:
        hours = round(BLAMED_FOR.total_seconds() / 3600)
        effect.detail = f"no rollout is under way, and none has completed within {hours} h: nothing to take back"
        return
    policy, _ = current_policy(session, effect.pool_id)
    asked = request(
        session, rollout.id, Verb.ROLLBACK, actor_of(alert), now=now, reason=_reason(alert), policy=policy,
        epoch=shards.epoch_of(session, effect.pool_id),
    )  # fmt: skip
    effect.state, effect.rollout_id = EffectState.DONE, asked.id
    effect.detail = f"rolls back by rollout {asked.id}" if asked.id != rollout.id else f"gives up rollout {asked.id}"


def _blamed(session: Session, pool_id: str, now: datetime) -> Rollout | None:
    """The last rollout of the pool if it completed lately."""
    last = next(iter(rollouts.list_rollouts(session, limit=1, pool_id=pool_id)), None)
    is_it = last is not None and last.phase == RolloutPhase.COMPLETED and last.ended_at is not None
    return (
        last if is_it and last is not None and last.ended_at is not None and now - last.ended_at < BLAMED_FOR else None
    )


def _others(session: Session, effect: AlertEffect) -> Sequence[AlertEffect]:
    """The same action in the same pool by other alerts or rules, in force; oldest first."""
    query = select(AlertEffect).where(
        AlertEffect.pool_id == effect.pool_id, AlertEffect.action == effect.action, AlertEffect.id != effect.id,
        AlertEffect.state.in_(_IN_FORCE),
    )  # fmt: skip
    return session.scalars(query.order_by(AlertEffect.id)).all()


def _is_held_by(rollout: Rollout, holder: str) -> bool:
    """Whether its pause, or the wish for one, is this actor's."""
    if rollout.phase != RolloutPhase.PAUSED:
        return rollout.request == Verb.PAUSE and rollout.request_actor == holder
    return rollout.paused_by == PausedBy.PERSON and (rollout.paused_reason or "").startswith(f"{holder} paused it")


def _reason(alert: Alert) -> str:
    said = alert.annotations.get("summary") or alert.annotations.get("description") or "it fires"
    return f"alert {alert.name}: {said}"[:500]
