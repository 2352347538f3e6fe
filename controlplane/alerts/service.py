"""Takes alerts in, each once, and keeps the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.alerts import effects, matchers
from controlplane.alerts.models import Action, Alert, AlertEffect, AlertRule, EffectState
from controlplane.alerts.payload import AlertIn, GroupIn
from controlplane.db import insert_if_absent, rows_matched
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind, Severity
from controlplane.fleets import service as fleets
from controlplane.ids import new_id

MOST_RULES = 200


class NoSuchRule(NotFound):
    title = "No such alert rule"


class NoSuchAlert(NotFound):
    title = "No such alert"


class NameTaken(Conflict):
    title = "The name is taken"


@dataclass(slots=True)
class Taken:
    """What one notification brought: alerts that are new, that were told before, that ended; and what they set off."""

    fired: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    effects: list[AlertEffect] = field(default_factory=list)


def take(
    session: Session, group: GroupIn, *, source: str, by: str, may_act_in: Callable[[str], bool], now: datetime
) -> Taken:
    """Harmless when repeated, also by several Alertmanagers at once and out of order: a firing is told by fingerprint and start.

    may_act_in: whether the sender may change the pool with this id; elsewhere the alert is noted only.
    """
    taken = Taken()
    rules = [rule for rule in list_rules(session) if rule.enabled]
    # In one order, so that two notifications at once cannot wait for each other.
    for told in sorted(group.alerts, key=lambda alert: (alert.identity, alert.startsAt)):
        alert, is_new = _note(session, told, group, source, by, now)
        if told.status == "resolved":
            if _end(session, alert, now):
                taken.resolved.append(alert.id)
                taken.effects += effects.lift(session, alert, now)
        elif not is_new:
            taken.repeated.append(alert.id)
            effects.repeat(session, alert, now)
        else:
            taken.fired.append(alert.id)
            for rule in rules:
                if matchers.all_match(rule.matchers, told.labels):
                    taken.effects.append(_act(session, alert, rule, may_act_in, now))
    if group.truncatedAlerts:
        events.record(
            session, kind=EventKind.ALERT_TRUNCATED, severity=Severity.WARNING, at=now, actor=by,
            message=f"{source} left {group.truncatedAlerts} alerts out of a notification: raise its max_alerts",
        )  # fmt: skip
    session.flush()
    return taken


def list_alerts(session: Session, *, limit: int, firing: bool | None, before_id: str | None) -> Sequence[Alert]:
    """Newest first."""
    query = select(Alert).order_by(Alert.id.desc()).limit(limit)
    if firing is not None:
        query = query.where(Alert.resolved_at.is_(None) if firing else Alert.resolved_at.is_not(None))
    return session.scalars(query if before_id is None else query.where(Alert.id < before_id)).all()


def effects_of(session: Session, alert_ids: Sequence[str]) -> Mapping[str, list[AlertEffect]]:
    found: dict[str, list[AlertEffect]] = {alert_id: [] for alert_id in alert_ids}
    for effect in session.scalars(
        select(AlertEffect).where(AlertEffect.alert_id.in_(alert_ids)).order_by(AlertEffect.id)
    ):
        found[effect.alert_id].append(effect)
    return found


def list_rules(session: Session) -> list[AlertRule]:
    return list(session.scalars(select(AlertRule).order_by(AlertRule.name)))


def get_rule(session: Session, rule_id: str, *, lock: bool = False) -> AlertRule:
    """Raises NoSuchRule."""
    found = session.get(AlertRule, rule_id, with_for_update=lock or None)
    if found is None:
        raise NoSuchRule(f"there is no alert rule {rule_id!r}: GET /api/v1/alert-rules lists them")
    return found


def put_rule(
    session: Session, rule: AlertRule | None, *, name: str, matching: Sequence[str], action: Action, pool_id: str | None,
    enabled: bool, by: str, now: datetime,
) -> AlertRule:  # fmt: skip
    """A new rule, or another text for one. Raises Invalid that names the field, NameTaken, NotFound for the pool."""
    for position, text in enumerate(matching):
        try:
            matchers.parse(text)
        except Invalid as error:
            at = [{"field": f"matchers.{position}", "message": error.detail}]
            raise Invalid(f"matchers.{position}: {error.detail}", errors=at) from None
    if pool_id is not None:
        fleets.get_pool(session, pool_id)
    others = [other for other in list_rules(session) if rule is None or other.id != rule.id]
    if any(other.name == name for other in others):
        words = f"there is an alert rule {name!r} already"
        raise NameTaken(f"name: {words}", errors=[{"field": "name", "message": words}])
    if len(others) >= MOST_RULES:
        raise Invalid(f"there are {MOST_RULES} rules, and no more fit: remove one")
    if rule is None:
        rule = AlertRule(id=new_id(), created_at=now, created_by=by, version=0)
        session.add(rule)
    rule.name, rule.matchers, rule.action, rule.pool_id, rule.enabled = name, list(matching), action, pool_id, enabled
    rule.version += 1
    session.flush()
    _tell(session, rule, f"{by} set alert rule {name}: {', '.join(matching)} leads to {action}", by, now)
    return rule


def remove_rule(session: Session, rule: AlertRule, *, by: str, now: datetime) -> None:
    """What it has set off stays until its alerts are resolved."""
    _tell(session, rule, f"{by} removed alert rule {rule.name}", by, now)
    session.delete(rule)


def _note(session: Session, told: AlertIn, group: GroupIn, source: str, by: str, now: datetime) -> tuple[Alert, bool]:
    """The row of this firing, and whether it is a new one."""
    pool_id, _ = pool_of(session, told.labels)
    is_new = insert_if_absent(
        session, Alert, id=new_id(), source=source, fingerprint=told.identity, starts_at=told.startsAt, name=told.name,
        labels=told.labels, annotations=told.annotations, pool_id=pool_id, group_key=group.groupKey,
        generator_url=told.generatorURL, received_at=now, received_by=by, last_seen_at=now, resolved_at=None,
    )  # fmt: skip
    same = select(Alert).where(
        Alert.source == source, Alert.fingerprint == told.identity, Alert.starts_at == told.startsAt
    )
    alert = session.scalars(same.with_for_update()).one()
    alert.last_seen_at = now
    if is_new:
        severity = Severity.INFO if told.status == "resolved" else Severity.WARNING
        said = told.annotations.get("summary", "")
        events.record(
            session, kind=EventKind.ALERT_FIRING, severity=severity, at=now, actor=by, pool_id=pool_id,
            message=f"Alert {told.name} fires" + (f": {said}" if said else ""),
            data={"alert_id": alert.id, "labels": told.labels},
        )  # fmt: skip
    return alert, is_new


def _end(session: Session, alert: Alert, now: datetime) -> bool:
    """Whether it ended now, and had not before."""
    ended = update(Alert).where(Alert.id == alert.id, Alert.resolved_at.is_(None)).values(resolved_at=now)
    if not rows_matched(session.execute(ended)):
        return False
    events.record(
        session, kind=EventKind.ALERT_RESOLVED, at=now, actor=alert.received_by, pool_id=alert.pool_id,
        message=f"Alert {alert.name} is resolved", data={"alert_id": alert.id},
    )  # fmt: skip
    return True


def _act(
    session: Session, alert: Alert, rule: AlertRule, may_act_in: Callable[[str], bool], now: datetime
) -> AlertEffect:
    pool_id, why = (rule.pool_id, "") if rule.pool_id is not None else pool_of(session, alert.labels)
    if pool_id is not None and may_act_in(pool_id):
        return effects.apply(session, alert, rule, pool_id, now)
    if pool_id is not None:
        why = f"{alert.received_by} may not change this pool: give its token the role operator there"
    effect = AlertEffect(
        alert_id=alert.id, rule_id=rule.id, rule_name=rule.name, action=rule.action, pool_id=pool_id,
        state=EffectState.NONE, at=now, detail=why,
    )  # fmt: skip
    session.add(effect)
    session.flush()
    return effect


def pool_of(session: Session, labels: Mapping[str, str]) -> tuple[str | None, str]:
    """The pool that labels name, or why there is none: by `pool_id`, or `pool` with `fleet` where pools share a name."""
    pools = fleets.list_pools(session)
    if "pool_id" in labels:
        known = [pool for pool in pools if pool.id == labels["pool_id"]]
    elif "pool" in labels:
        known = [
            pool
            for pool in pools
            if pool.name == labels["pool"] and labels.get("fleet", pool.fleet.name) == pool.fleet.name
        ]
    else:
        return None, "no label `pool` or `pool_id` says where to act: add one, or give the rule a pool"
    if len(known) == 1:
        return known[0].id, ""
    if not known:
        return None, f"there is no pool {labels.get('pool_id') or labels.get('pool')!r}"
    return None, f"several fleets have a pool {labels['pool']!r}: add the label `fleet`"


def _tell(session: Session, rule: AlertRule, message: str, by: str, now: datetime) -> None:
    events.record(
        session, kind=EventKind.ALERT_RULE_CHANGED, message=message, at=now, actor=by, pool_id=rule.pool_id,
        data={"rule_id": rule.id},
    )  # fmt: skip
