"""Webhooks to real receivers over real sockets, by the worker's own code; the clock is the test's where the schedule counts."""

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from controlplane.db import session_scope
from controlplane.webhooks import service
from controlplane.webhooks.schedule import JITTER, MAX_ATTEMPTS, PAUSES_S
from tests.support.receiver import Receiver, Reply, receiver
from tests.support.webhook_lab import WebhookLab, told, webhook_lab


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[WebhookLab]:
    with webhook_lab(tmp_path) as made:
        yield made


class TestSignature:
    def test_the_specification_s_verifier_accepts_ours(self, lab: WebhookLab, there: Receiver) -> None:
        _, secret = lab.endpoint(there.url)
        lab.happen(message="Übergang fertig ✓", data={"share": 0.25})
        lab.work()
        got = there.received[0]
        document = Webhook(secret).verify(got.body, dict(got.headers))
        assert document["type"] == "rollout.completed"
        assert document["data"]["message"] == "Übergang fertig ✓"
        assert document["data"]["details"] == {"share": 0.25}
        assert lab.deliveries()[0].state == "delivered"

    def test_a_thousand_tampered_deliveries_are_refused(self, lab: WebhookLab, there: Receiver) -> None:
        _, secret = lab.endpoint(there.url)
        lab.happen()
        lab.work()
        got, rng, verifier = there.received[0], random.Random(6), Webhook(secret)
        verifier.verify(got.body, dict(got.headers))
        accepted = []
        for number in range(1000):
            headers, body = dict(got.headers), bytearray(got.body)
            match number % 5:
                case 0:
                    body[rng.randrange(len(body))] ^= 1 << rng.randrange(7)
                case 1:
                    signature = bytearray(base64.b64decode(headers["webhook-signature"].partition(",")[2]))
                    signature[rng.randrange(32)] ^= 1 << rng.randrange(8)
                    headers["webhook-signature"] = "v1," + base64.b64encode(signature).decode()
                case 2:
                    headers["webhook-timestamp"] = str(
                        int(headers["webhook-timestamp"]) + rng.choice((-1, 1)) * rng.randint(1, 290)
                    )
                case 3:
                    headers["webhook-id"] = f"{headers['webhook-id'][:-1]}{rng.choice('ghijkl')}"
                case _:
                    cut = rng.randrange(len(body))
                    body = body[:cut] + bytes([rng.randrange(32, 127)]) + body[cut:]
            try:
                verifier.verify(bytes(body), headers)
                accepted.append(number)
            except WebhookVerificationError:
                pass
        assert accepted == []

    def test_while_a_secret_replaces_another_both_verify_and_later_only_the_new(
        self, lab: WebhookLab, there: Receiver
    ) -> None:
        webhook_id, old = lab.endpoint(there.url)
        with session_scope(lab.engine) as session:
            endpoint = service.get_endpoint(session, webhook_id)
            new = service.rotate_secret(session, endpoint, keep_s=60, by="test", now=lab.clock.now())
        lab.happen()
        lab.work()
        for secret in (old, new):
            Webhook(secret).verify(there.received[-1].body, dict(there.received[-1].headers))
        lab.clock.pass_(61)
        lab.happen()
        lab.work()
        Webhook(new).verify(there.received[-1].body, dict(there.received[-1].headers))
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(there.received[-1].body, dict(there.received[-1].headers))


class TestSchedule:
    def test_attempts_follow_the_schedule_and_the_endpoint_is_disabled_at_its_end(
        self, lab: WebhookLab, there: Receiver
    ) -> None:
        webhook_id, _ = lab.endpoint(there.url)
        there.reply = lambda _: Reply(500)
        lab.happen()
        lab.work()
        waits = []
        for _ in range(MAX_ATTEMPTS - 1):
            waits.append(lab.wait_for_next())
            assert lab.work() == 1
        assert len(there.received) == MAX_ATTEMPTS
        assert len({got.headers["webhook-id"] for got in there.received}) == 1
        assert len({got.headers["webhook-timestamp"] for got in there.received}) == MAX_ATTEMPTS
        for wait, pause in zip(waits, PAUSES_S[1:], strict=True):
            assert pause - 1 <= wait <= pause * (1 + JITTER) + 1
        assert lab.deliveries()[0].state == "failed"
        row = lab.endpoint_row(webhook_id)
        assert row.disabled_at is not None
        there.reply = lambda _: Reply()
        lab.happen()
        lab.work()
        assert len(there.received) == MAX_ATTEMPTS  # nothing more is sent to it

    def test_410_disables_at_once_and_another_endpoint_is_told(self, lab: WebhookLab, there: Receiver) -> None:
        webhook_id, _ = lab.endpoint(there.url)
        there.reply = lambda _: Reply(410)
        with receiver() as watching:
            lab.endpoint(watching.url, name="watch", kinds=["webhook.*"])
            lab.happen()
            lab.work()
            lab.work()
            assert lab.endpoint_row(webhook_id).disabled_at is not None
            assert [json.loads(got.body)["type"] for got in watching.received][-1] == "webhook.disabled"

    @pytest.mark.parametrize(("header", "least_s"), [("120", 120), (None, 5)])
    def test_retry_after_is_honoured(
        self, lab: WebhookLab, there: Receiver, header: str | None, least_s: float
    ) -> None:
        lab.endpoint(there.url)
        there.reply = lambda _: Reply(429, {"Retry-After": header} if header else {})
        lab.happen()
        lab.work()
        assert least_s - 1 <= lab.wait_for_next() <= least_s * 1.2 + 2

    def test_a_redirect_is_a_failure_and_is_not_followed(self, lab: WebhookLab, there: Receiver) -> None:
        with receiver() as elsewhere:
            there.reply = lambda _: Reply(307, {"Location": elsewhere.url})
            lab.endpoint(there.url)
            lab.happen()
            lab.work()
            assert elsewhere.received == []
        assert lab.deliveries()[0].last_error == "the receiver answered 307 (redirects are not followed)"


def test_receiver_down_for_an_hour_then_back_has_every_event_once(lab: WebhookLab, there: Receiver) -> None:
    lab.endpoint(there.url)
    there.down()
    for number in range(40):
        lab.happen(message=f"event {number}")
        lab.work()
        lab.clock.pass_(90)  # an hour in all
    assert there.received == []
    flaky = random.Random(1)
    there.reply = lambda _: Reply(503 if flaky.random() < 0.3 else 200)
    there.up()
    for _ in range(300):
        if all(delivery.state == "delivered" for delivery in lab.deliveries()):
            break
        lab.wait_for_next()
        lab.work()
    once = {got.headers["webhook-id"]: told(got.body)[0] for got in there.received}
    assert Counter(once.values()) == Counter(f"event {number}" for number in range(40))
    assert {delivery.state for delivery in lab.deliveries()} == {"delivered"}


def test_a_failing_receiver_is_left_alone_by_all_its_deliveries(lab: WebhookLab, there: Receiver) -> None:
    there.reply = lambda _: Reply(500)
    lab.endpoint(there.url)
    lab.happen()
    lab.work()
    for _ in range(50):
        lab.happen()
    lab.work()
    assert len(there.received) == 1
    lab.clock.pass_(6.5)
    there.reply = lambda _: Reply()
    lab.work()  # one finds out
    assert len(there.received) == 2
    lab.work()  # and the others follow
    assert len(there.received) == 52
    assert {delivery.state for delivery in lab.deliveries()} == {"delivered"}


class TestFilters:
    def test_kinds_pools_and_severity(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, kinds=["rollout.*", "node.unreachable"], min_severity="warning")
        lab.happen("rollout.completed", severity="info", message="too quiet")
        lab.happen("rollout.rolled_back", severity="warning", message="wanted")
        lab.happen("pool.frozen", severity="error", message="other kind")
        lab.happen("node.unreachable", severity="error", message="wanted too")
        lab.happen("node.unreachable2", severity="error", message="other kind too")
        lab.work()
        assert sorted(told(got.body)[0] for got in there.received) == ["wanted", "wanted too"]

    def test_what_happened_before_the_endpoint_is_not_told(self, lab: WebhookLab, there: Receiver) -> None:
        lab.happen(at=lab.clock.now() - timedelta(hours=1))
        lab.endpoint(there.url)
        lab.work()
        assert there.received == []


class TestCoalescing:
    def test_a_burst_is_one_delivery_and_an_error_goes_at_once(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, coalesce_s=30)
        for number in range(10):
            lab.happen(message=f"event {number}")
            lab.work()
        assert there.received == []
        lab.happen("rollout.rollback_failed", severity="error", message="now")
        lab.work()
        assert [told(got.body) for got in there.received] == [["now"]]
        lab.clock.pass_(31)
        lab.work()
        assert told(there.received[1].body) == [f"event {number}" for number in range(10)]
        assert json.loads(there.received[1].body)["type"] == "events.several"

    def test_a_flood_is_cut_into_deliveries_of_bounded_size(self, lab: WebhookLab, there: Receiver) -> None:
        lab.endpoint(there.url, coalesce_s=30)
        for number in range(120):
            lab.happen(message=f"event {number}", data={"blob": "x" * 3000})
        lab.work()
        lab.clock.pass_(31)
        lab.work()
        assert sorted(len(told(got.body)) for got in there.received) == [20, 50, 50]
        assert max(len(got.body) for got in there.received) < 25_000


def test_a_huge_answer_is_read_and_kept_in_part(lab: WebhookLab, there: Receiver) -> None:
    there.reply = lambda _: Reply(200, body=b"x" * 5_000_000)
    lab.endpoint(there.url)
    lab.happen()
    lab.work()
    assert lab.deliveries()[0].state == "delivered"
    with session_scope(lab.engine) as session:
        (attempt,) = service.attempts_of(session, lab.deliveries()[0].id)
        assert len(attempt.response_body) == 4000
