"""Alerts in: from a real Alertmanager, and in Grafana's dialect; what they set off, and what ends with them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from controlplane.db import make_engine, session_scope
from controlplane.fleets import service as fleets
from controlplane.fleets.models import PoolAlarm
from tests.support.alertmanager_server import alertmanager
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.fleet import until
from tests.support.moving_rollouts import moving_rollouts
from tests.support.ready_node import join_ready_node

V1 = "/api/v1"
STARTED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with api_server(sqlite_url(tmp_path), heartbeat_timeout_s=3600) as made:
        yield made


@pytest.fixture
def pool(api: Api) -> dict[str, Any]:
    pool_id = join_ready_node(api)
    found: dict[str, Any] = api.client.get(f"{V1}/pools/{pool_id}").raise_for_status().json()
    return found


def rule(api: Api, action: str, *matchers: str, **more: Any) -> None:
    body = {"name": f"{action} {len(matchers)} {more}"[:60], "matchers": matchers, "action": action, **more}
    api.client.post(f"{V1}/alert-rules", json=body).raise_for_status()


def group(*alerts: dict[str, Any], version: str = "4", **more: Any) -> dict[str, Any]:
    """As Alertmanager 0.25 sends it, fields of no interest included."""
    return {
        "version": version, "groupKey": '{}:{alertname="x"}', "truncatedAlerts": 0, "status": "firing", "receiver": "trimtab",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am.test", "alerts": list(alerts),
        **more,
    }  # fmt: skip


def alert(
    name: str = "PoolErrorsHigh",
    status: str = "firing",
    *,
    fingerprint: str = "abc",
    at: datetime = STARTED,
    **labels: str,
) -> dict[str, Any]:
    return {
        "status": status, "labels": {"alertname": name, **labels}, "annotations": {"summary": "too many errors"},
        "startsAt": at.isoformat(), "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p.test", "fingerprint": fingerprint,
    }  # fmt: skip


def send(api: Api, *alerts: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = api.client.post(f"{V1}/alerts/alertmanager", json=group(*alerts, **more))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def frozen(api: Api, pool: dict[str, Any]) -> Any:
    return api.client.get(f"{V1}/pools/{pool['id']}").json()["frozen"]


@pytest.mark.prometheus
def test_a_real_alertmanager_freezes_a_pool_once_and_lets_go_of_it(
    api: Api, pool: dict[str, Any], tmp_path: Path
) -> None:
    rule(api, "freeze", 'severity="page"', 'alertname=~"Pool.*"')
    labels = {"alertname": "PoolErrorsHigh", "severity": "page", "pool": pool["name"]}
    started = datetime.now(UTC) - timedelta(minutes=1)
    with alertmanager(tmp_path / "am", notify=f"{api.url}{V1}/alerts/alertmanager", token=ADMIN_TOKEN) as am:
        am.post(labels, starts_at=started, summary="2 % of requests fail")
        until(lambda: frozen(api, pool), 30, "the pool to be frozen")
        row = api.client.get(f"{V1}/alerts").json()["items"][0]

        def told_again() -> bool:
            return bool(api.client.get(f"{V1}/alerts").json()["items"][0]["last_seen_at"] > row["last_seen_at"])

        until(told_again, 30, "a repeated notification")
        assert len(api.client.get(f"{V1}/events?kind=pool.frozen").json()["items"]) == 1
        assert "2 % of requests fail" in frozen(api, pool)["reason"]
        am.post(labels, starts_at=started, resolved=True)
        until(lambda: frozen(api, pool) is None, 30, "the pool to be let go of")
    kinds = [event["kind"] for event in reversed(api.client.get(f"{V1}/events?kind=alert.*").json()["items"])]
    assert [kind for kind in kinds if kind != "alert.rule_changed"] == ["alert.firing", "alert.resolved"]


class TestDeduplication:
    def test_repeats_other_groups_and_late_firings_change_nothing(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page")
        page = alert(severity="page", pool=pool["name"])
        assert send(api, page)["fired"] == 1
        assert send(api, page)["repeated"] == 1
        assert send(api, page, groupKey="another route")["repeated"] == 1
        assert send(api, {**page, "status": "resolved"})["resolved"] == 1
        assert send(api, {**page, "status": "resolved"})["resolved"] == 0
        assert send(api, page)["fired"] == 0  # late, of a firing that has ended
        assert frozen(api, pool) is None
        again = send(api, alert(severity="page", pool=pool["name"], at=STARTED + timedelta(hours=1)))
        assert again["fired"] == 1
        assert frozen(api, pool) is not None

    def test_an_alert_that_was_over_before_it_was_told_sets_nothing_off(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page")
        taken = send(api, alert(status="resolved", severity="page", pool=pool["name"]))
        assert (taken["fired"], taken["effects"]) == (0, [])
        assert frozen(api, pool) is None


class TestFreeze:
    def test_a_persons_freeze_is_left_alone(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page")
        api.client.post(f"{V1}/pools/{pool['id']}/freeze", json={"reason": "stock-taking"}).raise_for_status()
        page = alert(severity="page", pool=pool["name"])
        assert send(api, page)["effects"][0]["state"] == "none"
        send(api, {**page, "status": "resolved"})
        assert frozen(api, pool)["reason"] == "stock-taking"

    def test_a_freeze_that_a_person_has_renewed_is_theirs(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page")
        page = alert(severity="page", pool=pool["name"])
        send(api, page)
        api.client.delete(f"{V1}/pools/{pool['id']}/freeze").raise_for_status()
        api.client.post(f"{V1}/pools/{pool['id']}/freeze", json={"reason": "mine"}).raise_for_status()
        send(api, {**page, "status": "resolved"})
        assert frozen(api, pool)["reason"] == "mine"

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_of_two_alerts_the_last_to_end_lets_go(
        self, api: Api, pool: dict[str, Any], order: tuple[int, int]
    ) -> None:
        rule(api, "freeze", "severity=page")
        both = [alert(name, severity="page", pool=pool["name"], fingerprint=name) for name in ("A", "B")]
        states = [send(api, each)["effects"][0]["state"] for each in both]
        assert states == ["set", "joined"]
        send(api, {**both[order[0]], "status": "resolved"})
        assert frozen(api, pool) is not None
        send(api, {**both[order[1]], "status": "resolved"})
        assert frozen(api, pool) is None


class TestProtect:
    def alarm(self, api: Api, pool: dict[str, Any], *, later: timedelta = timedelta(0)) -> str | None:
        """What decisions for the pool hear."""
        engine = make_engine(api.settings.database_url)
        try:
            with session_scope(engine, read_only=True) as session:
                return fleets.alarms_of(session, [pool["id"]], datetime.now(UTC) + later).get(pool["id"])
        finally:
            engine.dispose()

    def test_each_alert_asks_for_itself_and_ends_with_itself(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "protect", "severity=page")
        both = [alert(name, severity="page", pool=pool["name"], fingerprint=name) for name in ("A", "B")]
        assert [send(api, each)["effects"][0]["state"] for each in both] == ["set", "set"]
        assert self.alarm(api, pool) == "alert A: too many errors; alert B: too many errors"
        send(api, {**both[0], "status": "resolved"})
        assert self.alarm(api, pool) == "alert B: too many errors"
        send(api, {**both[1], "status": "resolved"})
        assert self.alarm(api, pool) is None

    def test_one_whose_sender_is_gone_ends_by_itself(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "protect", "severity=page")
        page = alert(severity="page", pool=pool["name"])
        send(api, page)
        assert self.alarm(api, pool, later=timedelta(hours=5)) is not None
        assert self.alarm(api, pool, later=timedelta(hours=7)) is None
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            session.execute(update(PoolAlarm).values(told_at=datetime.now(UTC) - timedelta(hours=5)))
        engine.dispose()
        assert send(api, page)["repeated"] == 1
        assert self.alarm(api, pool, later=timedelta(hours=5)) is not None  # it was told again


class TestRollouts:
    def _begin(self, api: Api, pool: dict[str, Any]) -> str:
        body = {"pool_id": pool["id"], "settings": {"max_batch_size": 24}, "reason": "more load"}
        return str(api.client.post(f"{V1}/rollouts", json=body).raise_for_status().json()["id"])

    def _phase(self, api: Api, rollout_id: str) -> str:
        return str(api.client.get(f"{V1}/rollouts/{rollout_id}").json()["phase"])

    def test_a_pause_ends_with_its_alert(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "pause", "severity=page")
        rollout_id = self._begin(api, pool)
        page = alert(severity="page", pool=pool["name"])
        assert send(api, page)["effects"][0]["state"] == "set"
        with moving_rollouts(api.settings.database_url):
            until(lambda: self._phase(api, rollout_id) == "PAUSED", 200, "the pause")
            send(api, {**page, "status": "resolved"})
            until(lambda: self._phase(api, rollout_id) != "PAUSED", 200, "going on")
        (resumed,) = api.client.get(f"{V1}/events?kind=rollout.resumed").json()["items"]
        assert resumed["actor"] == "alert:PoolErrorsHigh:abc"

    @pytest.mark.slow
    def test_a_pause_that_a_person_took_over_stays(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "pause", "severity=page")
        rollout_id = self._begin(api, pool)
        page = alert(severity="page", pool=pool["name"])
        with moving_rollouts(api.settings.database_url):
            send(api, page)
            until(lambda: self._phase(api, rollout_id) == "PAUSED", 200, "the pause")
            api.client.post(f"{V1}/rollouts/{rollout_id}/abort").raise_for_status()
            until(lambda: self._phase(api, rollout_id) not in {"PAUSED"}, 200, "the abort")
        taken = send(api, {**page, "status": "resolved"})
        assert "no longer this alert's" in taken["effects"][0]["detail"]

    @pytest.mark.slow
    def test_a_pause_that_was_not_met_yet_is_no_longer_asked_for(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "pause", "severity=page")
        rollout_id = self._begin(api, pool)
        page = alert(severity="page", pool=pool["name"])
        send(api, page)
        send(api, {**page, "status": "resolved"})
        begun = {"CANARY", "ANALYZING", "PROMOTING", "BAKING", "COMPLETED", "PAUSED"}
        with moving_rollouts(api.settings.database_url):
            until(lambda: self._phase(api, rollout_id) in begun, 200, "more than a beginning")
        told = api.client.get(f"{V1}/events?rollout_id={rollout_id}").json()["items"]
        assert [event for event in told if event["kind"] == "rollout.paused" and "alert:" in event["message"]] == []

    def test_the_change_under_way_is_given_up_and_the_last_completed_one_taken_back(
        self, api: Api, pool: dict[str, Any]
    ) -> None:
        rule(api, "roll_back", "severity=page")
        with moving_rollouts(api.settings.database_url):
            first = self._begin(api, pool)
            until(lambda: self._phase(api, first) == "COMPLETED", 200, "the end")
        # What the stepped controller wrote lies in simulated seconds to come: near enough to now to be blamed.
        taken = send(api, alert(severity="page", pool=pool["name"]))
        back = taken["effects"][0]["rollout_id"]
        assert back != first
        with moving_rollouts(api.settings.database_url):
            until(lambda: self._phase(api, back) == "COMPLETED", 200, "the way back")
        send(api, alert(status="resolved", severity="page", pool=pool["name"]))
        assert self._phase(api, back) == "COMPLETED"  # a resolved alert does not go forward again


class TestWhere:
    def test_an_alert_without_a_known_pool_is_noted_and_says_why(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page")
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "no label"),
            ({"pool": "nope"}, "there is no pool"),
            ({"pool_id": "nope"}, "no pool"),
        )
        for labels, words in cases:
            taken = send(api, alert(severity="page", fingerprint=f"f{labels}"[:60], **labels))
            assert words in taken["effects"][0]["detail"]

    def test_a_rule_s_own_pool_needs_no_label(self, api: Api, pool: dict[str, Any]) -> None:
        rule(api, "freeze", "severity=page", pool_id=pool["id"])
        assert send(api, alert(severity="page"))["effects"][0]["state"] == "set"

    def test_a_token_of_another_pool_may_tell_and_not_act(self, api: Api, pool: dict[str, Any]) -> None:
        other = join_ready_node(api, "node-2", pool="theirs")
        rule(api, "freeze", "severity=page")
        wish = {"name": "am", "role": "operator", "pool_id": other}
        token = api.client.post(f"{V1}/tokens", json=wish).raise_for_status().json()["token"]
        held = {"Authorization": f"Bearer {token}"}
        body = group(alert(severity="page", pool=pool["name"]))
        answer = api.anonymous.post(f"{V1}/alerts/alertmanager", json=body, headers=held)
        assert "may not change this pool" in answer.json()["effects"][0]["detail"]
        assert frozen(api, pool) is None


def test_grafanas_dialect(api: Api, pool: dict[str, Any]) -> None:
    """Fields as in https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/."""
    rule(api, "freeze", "severity=page")
    own = {
        "values": {"A": 0.02}, "valueString": "[ var='A' value=0.02 ]", "silenceURL": "http://g.test/s", "dashboardURL": "",
        "panelURL": "", "imageURL": "http://g.test/i.png", "orgId": 1,
    }  # fmt: skip
    body = group(
        {**alert(severity="page", pool=pool["name"]), **own},
        version="1",
        orgId=1,
        title="[FIRING:1]",
        state="alerting",
        message="m",
    )
    assert api.client.post(f"{V1}/alerts/grafana", json=body).json()["fired"] == 1
    assert frozen(api, pool) is not None
    assert api.client.post(f"{V1}/alerts/alertmanager", json=body).status_code == 422


def test_what_was_left_out_is_told(api: Api) -> None:
    send(api, truncatedAlerts=7)
    (event,) = api.client.get(f"{V1}/events?kind=alert.truncated").json()["items"]
    assert "7 alerts" in event["message"]


def test_a_matcher_that_is_none_is_refused_at_its_place(api: Api) -> None:
    for text in ('severity=="page"', "severity", 'a=~"("', "=x", ""):
        body = {"name": "r", "matchers": ["a=b", text], "action": "freeze"}
        answer = api.client.post(f"{V1}/alert-rules", json=body)
        assert answer.status_code == 422, text
        assert answer.json()["errors"][0]["field"] == "matchers.1", text
