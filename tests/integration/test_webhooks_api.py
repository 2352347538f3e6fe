"""Webhooks through the API: who may, what is shown, what is refused and how; sending again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.api import Api, api_server
from tests.support.receiver import Receiver, Reply, receiver
from tests.support.webhook_lab import WebhookLab, webhook_lab

V1 = "/api/v1"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_server(database_url, webhook_allowed_networks=["127.0.0.0/8"]) as made:
        yield made


@pytest.fixture
def lab(api: Api, database_url: str, tmp_path: Any) -> Iterator[WebhookLab]:
    """The worker beside the API, on the same database."""
    with webhook_lab(tmp_path, database_url) as made:
        yield made


def _work(lab: WebhookLab) -> None:
    lab.clock.at = datetime.now(UTC) + timedelta(seconds=1)
    lab.work()


def test_the_life_of_a_webhook(api: Api, lab: WebhookLab, there: Receiver) -> None:
    wish = {"name": "ci", "url": there.url + "?token=hush", "kinds": ["webhook.*", "rollout.*"]}
    answer = api.client.post(f"{V1}/webhooks", json=wish)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert "hush" not in made["url"]
    secret = made["signing_secret"]
    shown = api.client.get(f"{V1}/webhooks/{made['id']}")
    assert "signing_secret" not in shown.json()
    assert secret not in shown.text

    sent = api.client.post(f"{V1}/webhooks/{made['id']}/test")
    assert sent.status_code == 202
    _work(lab)
    document = Webhook(secret).verify(there.received[0].body, dict(there.received[0].headers))
    assert document["type"] == "webhook.test"
    detail = api.client.get(sent.headers["location"]).json()
    assert detail["state"] == "delivered"
    assert detail["attempts_made"][0]["status"] == 200
    assert detail["attempts_made"][0]["response_body"] == "ok"

    stale = api.client.patch(f"{V1}/webhooks/{made['id']}", json={"coalesce_s": 5}, headers={"If-Match": '"old"'})
    assert stale.status_code == 412
    changed = api.client.patch(
        f"{V1}/webhooks/{made['id']}",
        json={"coalesce_s": 5, "enabled": False},
        headers={"If-Match": shown.headers["etag"]},
    )
    assert changed.json()["coalesce_s"] == 5
    assert changed.json()["disabled_at"] is not None
    new = api.client.post(f"{V1}/webhooks/{made['id']}/secret", json={}).json()["signing_secret"]
    assert new != secret
    assert api.client.get(f"{V1}/webhooks").json()["items"][0]["secrets"] == 2
    assert api.client.delete(f"{V1}/webhooks/{made['id']}").status_code == 204
    assert api.client.get(f"{V1}/webhooks/{made['id']}").status_code == 404
    kinds = [row["kind"] for row in api.client.get(f"{V1}/events?kind=webhook.*").json()["items"]]
    assert kinds == [
        "webhook.removed", "webhook.secret_rotated", "webhook.disabled", "webhook.changed", "webhook.created",
    ]  # fmt: skip


def test_a_failed_delivery_is_sent_again_under_its_id(api: Api, lab: WebhookLab, there: Receiver) -> None:
    made = api.client.post(f"{V1}/webhooks", json={"name": "ci", "url": there.url}).json()
    there.reply = lambda _: Reply(500, body=b"out of order")
    delivery = api.client.post(f"{V1}/webhooks/{made['id']}/test").json()
    path = f"{V1}/webhook-deliveries/{delivery['id']}/redeliver"
    assert api.client.post(path).status_code == 409  # on its way
    _work(lab)
    there.reply = lambda _: Reply()
    assert api.client.post(path).status_code == 202
    _work(lab)
    detail = api.client.get(f"{V1}/webhook-deliveries/{delivery['id']}").json()
    assert [attempt["status"] for attempt in detail["attempts_made"]] == [500, 200]
    assert detail["attempts_made"][0]["response_body"] == "out of order"
    assert {got.headers["webhook-id"] for got in there.received} == {delivery["id"]}
    assert api.client.post(path).status_code == 202  # also what has arrived: a receiver may have lost it
    _work(lab)
    assert len(there.received) == 3


def test_what_failed_while_a_receiver_was_gone_is_recovered(api: Api, lab: WebhookLab, there: Receiver) -> None:
    made = api.client.post(f"{V1}/webhooks", json={"name": "ci", "url": there.url, "kinds": ["rollout.*"]}).json()
    there.reply = lambda _: Reply(410)
    lab.clock.at = datetime.now(UTC) + timedelta(seconds=1)
    lab.happen()
    lab.happen(message="another")
    lab.work()
    page = api.client.get(f"{V1}/webhooks/{made['id']}/deliveries?state=failed&limit=1")
    assert len(page.json()["items"]) == 1
    assert 'rel="next"' in page.headers["link"]
    there.reply = lambda _: Reply()
    api.client.patch(f"{V1}/webhooks/{made['id']}", json={"enabled": True})
    since = {"since": "2020-01-01T00:00:00Z"}
    assert api.client.post(f"{V1}/webhooks/{made['id']}/recover", json=since).json() == {"resent": 2}
    _work(lab)
    states = {row["state"] for row in api.client.get(f"{V1}/webhooks/{made['id']}/deliveries").json()["items"]}
    assert states == {"delivered"}


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"url": "https://169.254.169.254/latest"}, "url"),
    ({"url": "ftp://example.com"}, "url"),
    ({"url": "http://10.0.0.1/"}, "url"),
    ({"kinds": ["rolout.*"]}, "kinds"),
    ({"kinds": []}, "kinds"),
    ({"min_severity": "loud"}, "min_severity"),
    ({"coalesce_s": -1}, "coalesce_s"),
    ({"name": " "}, "name"),
    ({"format": "fax"}, "format"),
    ({"format": "pagerduty"}, "credential"),
    ({"unknown": 1}, "unknown"),
)


def test_what_is_wrong_is_said_at_its_field(api: Api) -> None:
    for wish, field in WRONG:
        answer = api.client.post(f"{V1}/webhooks", json={"name": "x", "url": "https://example.com/", **wish})
        assert answer.status_code == 422, wish
        assert [error["field"].split(".")[0] for error in answer.json()["errors"]] == [field], wish


def test_a_name_is_taken_once_and_a_pool_must_be_there(api: Api) -> None:
    wish = {"name": "x", "url": "https://example.com/"}
    assert api.client.post(f"{V1}/webhooks", json=wish).status_code == 201
    assert api.client.post(f"{V1}/webhooks", json=wish).status_code == 409
    assert api.client.post(f"{V1}/webhooks", json={**wish, "name": "y", "pool_id": "none"}).status_code == 404
