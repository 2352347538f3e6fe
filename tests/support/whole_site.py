"""One installation with something on every page: a fleet with a past, people, tokens, webhooks with deliveries, alerts, and a
history that is chained and signed. And its nodes kept alive, for journeys that change something."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from sqlalchemy import Engine

from controlplane.accounts import tokens
from controlplane.accounts.roles import Role
from controlplane.audit import heads
from controlplane.clock import SystemClock
from controlplane.db import make_engine, session_scope
from controlplane.events import chain
from controlplane.fleets import service as fleets
from controlplane.rollouts import service as rollouts
from controlplane.rollouts.drive import Driver
from controlplane.rollouts.execute import Overtaken
from controlplane.webhooks.models import DeliveryState, WebhookDelivery
from inference_node.contract.messages import AckOutcome, NodeState, SettingsAck
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.browser import chromium
from tests.support.database import sqlite_url
from tests.support.leading import take_over
from tests.support.people import add_admin
from tests.support.registrations import heartbeat_of
from tests.support.seeded_fleet import EPOCH_HOLDER, SeededFleet, SteadyCollector, seed_fleet
from tests.support.web_visit import Visit, open_tab

AUTHOR = "alice"
AUDIT_KEY = "ttk_a_key_for_tests_that_is_long_enough"
_ROUND_S = 0.2


@dataclass(frozen=True, slots=True)
class WholeSite:
    """`author` is the token of somebody else than who signs in, so that there are changes to approve."""

    folder: Path
    api: Api
    engine: Engine
    fleet: SeededFleet
    browser: Browser
    axe: Axe
    author: str
    webhook_id: str

    def pages(self) -> dict[str, str]:
        """Name of each page of the product to its path: the twelve, their details, and the way in."""
        pool = self.fleet.pool_id
        return {
            "fleet": "/",
            "pool": f"/pools/{pool}",
            "node": f"/nodes/{self.fleet.node_ids[0]}",
            "decisions": "/decisions",
            "decision": f"/decisions/{self.fleet.held_id}",
            "rollouts": "/rollouts",
            "rollout": f"/rollouts/{self.fleet.rollout_id}",
            "approvals": "/rollouts?phase=PENDING_APPROVAL",
            "policy": f"/pools/{pool}/policy",
            "what-if": f"/what-if?pool={pool}&max_batch_size=12&offered_rps=5",
            "forecasts": "/forecasts?ahead=30+s",
            "alerts": "/alerts",
            "webhooks": f"/webhooks?open={self.webhook_id}",
            "audit": "/audit",
            "access": "/access",
            "account": "/account",
            "system": "/system",
            "missing": "/nothing/here",
        }

    def as_author(self, method: str, path: str, **options: object) -> dict[str, object]:
        """Somebody else asks for something over the API."""
        headers = {"authorization": f"Bearer {self.author}"}
        answer = self.api.anonymous.request(method, f"/api/v1{path}", headers=headers, **options)  # type: ignore[arg-type]  # json, params
        found: dict[str, object] = answer.raise_for_status().json()
        return found

    def propose(self, **settings: object) -> str:
        """Id of a change that somebody else asked for and that waits for approval."""
        body = {"pool_id": self.fleet.pool_id, "settings": settings, "reason": "More streams at once", "propose": True}
        return str(self.as_author("POST", "/rollouts", json=body)["id"])

    def chain(self) -> None:
        """What a worker does every minute."""
        with session_scope(self.engine) as session:
            chain.extend(session)
            heads.sign(session, AUDIT_KEY, datetime.now(UTC))

    def end_rollouts(self) -> None:
        """Nothing is under way afterwards: each journey begins from rest."""
        while True:
            with session_scope(self.engine, read_only=True) as session:
                under_way = [row.id for row in rollouts.active_rollouts(session)]
            if not under_way:
                return
            for rollout_id in under_way:
                self.api.client.post(f"/api/v1/rollouts/{rollout_id}/abort")
            threading.Event().wait(_ROUND_S)


@contextmanager
def whole_site(folder: Path) -> Iterator[WholeSite]:
    url = sqlite_url(folder)
    engine = make_engine(url)
    try:
        fleet = seed_fleet(engine, now=datetime.now(UTC))
        add_admin(engine)
        with session_scope(engine) as session:
            _, author = tokens.create_token(session, name=AUTHOR, role=Role.ADMIN, now=datetime.now(UTC))
        with api_server(url, audit_key=AUDIT_KEY) as api, chromium() as browser:
            webhook_id = _notices(api, engine, fleet)
            _people(api)
            site = WholeSite(folder, api, engine, fleet, browser, Axe(), author, webhook_id)
            site.chain()
            yield site
    finally:
        engine.dispose()


@contextmanager
def signed_in(site: WholeSite, *, scheme: str = "light", width: str = "wide") -> Iterator[Visit]:
    with open_tab(site.browser, site.api.url, scheme=scheme, width=width) as tab:
        tab.goto(f"/#token={ADMIN_TOKEN}")
        yield tab


def _people(api: Api) -> None:
    for name, role in (("bob", "approver"), ("carol", "viewer")):
        api.client.post("/api/v1/users", json={"name": name, "role": role}).raise_for_status()
    api.client.post("/api/v1/tokens", json={"name": "nightly report", "role": "viewer"}).raise_for_status()
    api.client.post("/api/v1/enrolment-tokens", json={"note": "rack 4"}).raise_for_status()


def _notices(api: Api, engine: Engine, fleet: SeededFleet) -> str:
    """Id of a webhook with one delivery that failed and one that waits; a rule, and an alert that fires."""
    hook = {"name": "ops", "url": "https://ops.example.com/hooks", "kinds": ["rollout.*"]}
    webhook_id = str(api.client.post("/api/v1/webhooks", json=hook).raise_for_status().json()["id"])
    owed = [
        str(api.client.post(f"/api/v1/webhooks/{webhook_id}/test").raise_for_status().json()["id"]) for _ in range(2)
    ]
    with session_scope(engine) as session:
        fail_delivery(session.get_one(WebhookDelivery, owed[0]))
    rule = {"name": "pages pause", "matchers": ["severity=page"], "action": "pause", "pool_id": fleet.pool_id}
    api.client.post("/api/v1/alert-rules", json=rule).raise_for_status()
    alert = {
        "status": "firing", "labels": {"alertname": "ErrorsBurn", "severity": "page", "pool": "demo"},
        "annotations": {"summary": "Errors burn the budget"}, "startsAt": "2026-03-01T12:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "a1b2c3",
    }  # fmt: skip
    body = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "alerts": [alert]}
    api.client.post("/api/v1/alerts/alertmanager", json=body).raise_for_status()
    return webhook_id


def fail_delivery(delivery: WebhookDelivery) -> None:
    """As a worker leaves it that has tried everything."""
    delivery.state, delivery.next_at, delivery.ended_at = DeliveryState.FAILED.value, None, datetime.now(UTC)
    delivery.attempts = delivery.total_attempts = 10
    delivery.last_status = 503


@contextmanager
def kept_alive(site: WholeSite) -> Iterator[None]:
    """Until left, the nodes report themselves, take what is desired of them, and rollouts are driven: in real time, by the
    product's own driver, on windows in which every node serves alike."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def keep() -> None:
        try:
            with session_scope(site.engine) as session:
                epoch = take_over(session, EPOCH_HOLDER)
            driver = Driver(site.engine, SystemClock(), SteadyCollector(), heartbeat_timeout_s=15.0)
            while not ended.wait(_ROUND_S):
                _report(site)
                with session_scope(site.engine, read_only=True) as session:
                    under_way = [row.id for row in rollouts.active_rollouts(session)]
                for rollout_id in under_way:
                    try:
                        driver.drive(rollout_id, epoch)
                    except Overtaken:
                        continue  # a person was quicker: the next round sees it
        except BaseException as error:
            failed.append(error)
            raise

    _report(site)  # what the past left silent is there from the first moment on
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
    assert not failed, failed


def _report(site: WholeSite) -> None:
    now = datetime.now(UTC)
    with session_scope(site.engine) as session:
        for node_id in site.fleet.node_ids:
            node = fleets.get_node(session, node_id)
            push = fleets.desired_push(session, node)
            if push is not None and push.generation > node.observed_generation:
                ack = SettingsAck(
                    generation=push.generation, epoch=push.epoch, outcome=AckOutcome.APPLIED, applied_step=1,
                    config_hash=push.config_hash, settings=push.settings,
                )  # fmt: skip
                fleets.record_ack(session, node_id, ack, now)
                session.flush()
            beat = heartbeat_of(node, state=NodeState.READY, running=1, applied_step=node.applied_step)
            fleets.heartbeat(session, node, beat, now=now)
