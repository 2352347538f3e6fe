"""Webhooks through the real worker, Redis and API as processes, while the worker and the queue are killed."""

import json
from pathlib import Path

import pytest

from tests.support.fleet import until
from tests.support.live_fleet import live_fleet
from tests.support.receiver import Reply, receiver

pytestmark = pytest.mark.prometheus


@pytest.mark.slow
def test_every_event_arrives_under_one_id_while_worker_and_queue_die(tmp_path: Path) -> None:
    allowed = {"CONTROLPLANE_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
    with receiver() as there, live_fleet(tmp_path, nodes=1, environment=allowed) as fleet:
        fleet.post("/webhooks", {"name": "ci", "url": there.url, "kinds": ["pool.frozen", "pool.unfrozen"]})
        pool = fleet.pool["id"]
        for number in range(30):
            fleet.post(f"/pools/{pool}/freeze", {"reason": f"round {number}"})
            fleet.client.delete(f"/pools/{pool}/freeze").raise_for_status()
            if number % 10 == 4:
                fleet.parts["worker"].restart()
            if number % 10 == 8:
                fleet.redis.flush()
            if number == 15:
                there.reply = lambda _: Reply(500)
            if number == 18:
                there.reply = lambda _: Reply()
        events = [e for e in fleet.get("/events", limit=200)["items"] if e["kind"] in {"pool.frozen", "pool.unfrozen"}]
        wanted = {event["id"] for event in events}
        assert len(wanted) == 60

        def arrived() -> bool:
            rows = fleet.get(f"/webhooks/{fleet.get('/webhooks')['items'][0]['id']}/deliveries", limit=200)["items"]
            return len(rows) == 60 and all(row["state"] == "delivered" for row in rows)

        until(arrived, 120, "every delivery to have arrived")
        by_delivery: dict[str, set[int]] = {}
        for got in there.received:
            event_id = json.loads(got.body)["data"]["event_id"]
            by_delivery.setdefault(got.headers["webhook-id"], set()).add(event_id)
        assert len(by_delivery) == 60
        assert all(len(ids) == 1 for ids in by_delivery.values())
        assert {next(iter(ids)) for ids in by_delivery.values()} == wanted
