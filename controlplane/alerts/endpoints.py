"""Alerts in: where Alertmanager and Grafana send to, what has come in, and the rules."""

from typing import Annotated

from fastapi import APIRouter, Response

from controlplane.accounts.dependencies import Admin, require
from controlplane.accounts.roles import Identity, Role
from controlplane.alerts import service
from controlplane.alerts.models import Alert, AlertEffect, AlertRule
from controlplane.alerts.payload import AlertmanagerIn, GrafanaIn, GroupIn
from controlplane.alerts.schemas import AlertOut, AlertRuleIn, AlertRuleOut, EffectOut, TakenOut
from controlplane.dependencies import Now, ReadSession, WriteSession
from controlplane.paging import Paged
from controlplane.preconditions import IfMatch, check, etag
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_cursor, encode_cursor

router = APIRouter(tags=["alerts"])
_VIEWER = [require(Role.VIEWER)]
Sender = Annotated[Identity, require(Role.OPERATOR, in_some_pool=True)]


@router.post("/alerts/alertmanager", responses=declared(401, 403, 422))
def receive_alertmanager(body: AlertmanagerIn, who: Sender, session: WriteSession, now: Now) -> TakenOut:
    """Alertmanager's `webhook_configs` point here, with a token of role operator, everywhere or in the pools it may touch."""
    return _take(session, body, "alertmanager", who, now)


@router.post("/alerts/grafana", responses=declared(401, 403, 422))
def receive_grafana(body: GrafanaIn, who: Sender, session: WriteSession, now: Now) -> TakenOut:
    """A webhook contact point of Grafana's alerting points here, with such a token as its authorization header."""
    return _take(session, body, "grafana", who, now)


@router.get("/alerts", dependencies=_VIEWER, responses=declared(401, 403, 422))
def list_alerts(
    session: ReadSession, paged: Paged, firing: bool | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[AlertOut]:
    """Alerts that came in, newest first, with what each set off."""
    before = None if cursor is None else decode_cursor(cursor)
    rows = service.list_alerts(session, limit=limit + 1, firing=firing, before_id=before)
    done = service.effects_of(session, [row.id for row in rows[:limit]])
    page = [_alert(row, done[row.id]) for row in rows[:limit]]
    return paged.page(page, encode_cursor(page[-1].id) if len(rows) > limit else None)


@router.get("/alert-rules", dependencies=_VIEWER, responses=declared(401, 403))
def list_alert_rules(session: ReadSession) -> Page[AlertRuleOut]:
    """Which alerts lead to what."""
    return Page(items=[AlertRuleOut.model_validate(row) for row in service.list_rules(session)])


@router.post("/alert-rules", status_code=201, responses=declared(401, 403, 404, 409, 422))
def create_alert_rule(
    body: AlertRuleIn, who: Admin, session: WriteSession, now: Now, response: Response
) -> AlertRuleOut:
    """Makes a rule. It acts on alerts that begin from now on."""
    rule = service.put_rule(
        session, None, name=body.name, matching=body.matchers, action=body.action, pool_id=body.pool_id,
        enabled=body.enabled, by=who.name, now=now,
    )  # fmt: skip
    response.headers["ETag"] = _tag(rule)
    return AlertRuleOut.model_validate(rule)


@router.put("/alert-rules/{rule_id}", responses=declared(401, 403, 404, 409, 412, 422))
def put_alert_rule(
    rule_id: str, body: AlertRuleIn, who: Admin, session: WriteSession, now: Now, response: Response,
    if_match: IfMatch = None,
) -> AlertRuleOut:  # fmt: skip
    """Changes a rule. What it has set off stays until its alerts are resolved."""
    rule = service.get_rule(session, rule_id, lock=True)
    check(if_match, _tag(rule), what=f"alert rule {rule.name}")
    service.put_rule(
        session, rule, name=body.name, matching=body.matchers, action=body.action, pool_id=body.pool_id,
        enabled=body.enabled, by=who.name, now=now,
    )  # fmt: skip
    response.headers["ETag"] = _tag(rule)
    return AlertRuleOut.model_validate(rule)


@router.delete("/alert-rules/{rule_id}", status_code=204, responses=declared(401, 403, 404, 412, 422))
def remove_alert_rule(rule_id: str, who: Admin, session: WriteSession, now: Now, if_match: IfMatch = None) -> None:
    """Removes a rule. What it has set off stays until its alerts are resolved."""
    rule = service.get_rule(session, rule_id, lock=True)
    check(if_match, _tag(rule), what=f"alert rule {rule.name}")
    service.remove_rule(session, rule, by=who.name, now=now)


def _take(session: WriteSession, body: GroupIn, source: str, who: Identity, now: Now) -> TakenOut:
    def may_act_in(pool_id: str) -> bool:
        return who.role_in(pool_id).includes(Role.OPERATOR)

    taken = service.take(session, body, source=source, by=who.name, may_act_in=may_act_in, now=now)
    return TakenOut(
        fired=len(taken.fired), repeated=len(taken.repeated), resolved=len(taken.resolved),
        effects=[EffectOut.model_validate(effect) for effect in taken.effects],
    )  # fmt: skip


def _alert(row: Alert, done: list[AlertEffect]) -> AlertOut:
    return AlertOut(
        id=row.id, source=row.source, name=row.name, fingerprint=row.fingerprint, labels=row.labels,
        annotations=row.annotations, pool_id=row.pool_id, generator_url=row.generator_url, starts_at=row.starts_at,
        received_at=row.received_at, last_seen_at=row.last_seen_at, resolved_at=row.resolved_at,
        effects=[EffectOut.model_validate(effect) for effect in done],
    )  # fmt: skip


def _tag(rule: AlertRule) -> str:
    return etag("alert-rule", rule.id, rule.version)
