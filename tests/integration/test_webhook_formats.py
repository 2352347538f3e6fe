"""Deliveries to chats, pagers, trackers and a real Alertmanager, by the worker's own code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from controlplane.db import session_scope
from controlplane.webhooks import service
from tests.support.alertmanager_server import alertmanager
from tests.support.fleet import until
from tests.support.receiver import Receiver, receiver
from tests.support.webhook_lab import WebhookLab, webhook_lab

KEY = "R0UTINGKEY0123456789"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[WebhookLab]:
    with webhook_lab(tmp_path) as made:
        yield made


def bodies(there: Receiver) -> list[Any]:
    return [json.loads(got.body) for got in there.received]


def test_slack_gets_blocks_and_a_text_that_mentions_nobody(lab: WebhookLab, there: Receiver) -> None:
    lab.endpoint(there.url, format="slack", coalesce_s=10)
    lab.happen(message="all is <!channel> & <https://evil.test|well>", rollout_id="r1")
    for number in range(30):
        lab.happen(message=f"event {number} " + "x" * 5000)
    lab.work()
    lab.clock.pass_(11)
    lab.work()
    (body,) = bodies(there)
    assert "31 events" in body["text"]
    assert "&lt;!channel&gt; &amp;" in body["blocks"][0]["text"]["text"]
    assert "https://trimtab.test/rollouts/r1" in body["blocks"][0]["text"]["text"]
    assert len(body["blocks"]) <= 50
    assert all(len(block["text"]["text"]) <= 3000 for block in body["blocks"] if block["type"] == "section")


def test_teams_gets_an_adaptive_card(lab: WebhookLab, there: Receiver) -> None:
    lab.endpoint(there.url, format="teams")
    lab.happen("rollout.rolled_back", severity="warning", message="back [click](https://evil.test)", rollout_id="r1")
    lab.work()
    (body,) = bodies(there)
    (attachment,) = body["attachments"]
    card = attachment["content"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["actions"][0]["url"] == "https://trimtab.test/rollouts/r1"
    assert "[click]" not in json.dumps(card["body"]).replace("\\\\[", "")


class TestPagerDuty:
    def test_an_incident_is_triggered_and_resolved_under_one_key(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, format="pagerduty", credential=KEY, min_severity="warning")
        lab.happen("node.unreachable", severity="warning", node_id="n1", message="m" * 3000)
        lab.work()
        lab.happen("decision.made", node_id="n1")  # no trouble
        lab.happen("node.recovered", node_id="n1")  # of little weight, and yet told
        lab.work()
        trigger, resolve = bodies(there)
        assert [trigger["event_action"], resolve["event_action"]] == ["trigger", "resolve"]
        assert trigger["dedup_key"] == resolve["dedup_key"] == "trimtab:NodeUnreachable:n1"
        assert trigger["routing_key"] == KEY
        assert len(trigger["payload"]["summary"]) == 1024
        assert trigger["payload"]["severity"] in {"critical", "error", "warning", "info"}

    def test_what_ends_two_incidents_resolves_both(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, format="pagerduty", credential=KEY)
        lab.happen("node.removed", node_id="n1")
        lab.work()
        assert {body["dedup_key"] for body in bodies(there)} == {
            "trimtab:NodeUnreachable:n1",
            "trimtab:NodeQuarantined:n1",
        }

    def test_the_routing_key_stands_in_no_log_of_deliveries(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, format="pagerduty", credential=KEY)
        lab.happen("node.unreachable", severity="warning", node_id="n1")
        lab.work()
        (delivery,) = lab.deliveries()
        with session_scope(lab.engine) as session:
            (attempt,) = service.attempts_of(session, delivery.id)
            kept = f"{attempt.request_headers} {attempt.request_body} {attempt.response_body} {delivery.events}"
        assert KEY not in kept
        assert "(not shown)" in kept


def test_a_ticket_is_signed_and_shows_its_authorization_to_nobody(lab: WebhookLab, there: Receiver) -> None:
    _, secret = lab.endpoint(there.url, format="ticket", credential="Basic dHJpbXRhYjpodXNo")
    lab.happen("rollout.rollback_failed", severity="error", message="stuck", rollout_id="r1")
    lab.work()
    got = there.received[0]
    document = Webhook(secret).verify(got.body, dict(got.headers))
    assert (document["title"], document["priority"]) == ("stuck", "high")
    assert got.headers["authorization"] == "Basic dHJpbXRhYjpodXNo"
    (delivery,) = lab.deliveries()
    with session_scope(lab.engine) as session:
        (attempt,) = service.attempts_of(session, delivery.id)
        assert attempt.request_headers["Authorization"] == "(not shown)"


@pytest.mark.prometheus
def test_a_real_alertmanager_shows_a_trouble_until_its_end(lab: WebhookLab, tmp_path: Path) -> None:
    with alertmanager(tmp_path / "am", notify="http://127.0.0.1:1/", token="none") as am:
        lab.endpoint(am.url, format="alertmanager", min_severity="warning")
        lab.happen("node.unreachable", severity="warning", node_id="n1", message="node-1 is gone")
        lab.happen("node.quarantined", severity="warning", node_id="n2", message="node-2 misbehaved")
        lab.work()

        def shown() -> set[tuple[str, str]]:
            return {(row["labels"]["alertname"], row["labels"]["node_id"]) for row in am.alerts()}

        both = {("TrimtabNodeUnreachable", "n1"), ("TrimtabNodeQuarantined", "n2")}
        until(lambda: shown() == both, 30, "both alerts")
        assert "node-1 is gone" in {row["annotations"]["summary"] for row in am.alerts()}
        lab.happen("node.recovered", node_id="n1", message="node-1 is back")
        lab.work()
        until(lambda: shown() == both - {("TrimtabNodeUnreachable", "n1")}, 30, "the first to end")


@pytest.mark.parametrize(
    ("form", "credential"), [("pagerduty", None), ("slack", "x"), ("standard", "x"), ("teams", "x")]
)
def test_a_credential_where_one_is_needed_and_nowhere_else(
    lab: WebhookLab, there: Receiver, form: str, credential: str | None
) -> None:
    with pytest.raises(Exception, match="credential"):
        lab.endpoint(there.url, format=form, credential=credential)
