"""Every error that the API's description promises is produced here, on a real server; a new promise without a way fails.

On PostgreSQL, which refuses what SQLite takes (a zero byte in an id). Reads that every signed-in person may make document 403
for grants that leave a pool out: without such grants there is nobody to refuse, so those are counted and not produced.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from controlplane import schema
from controlplane.accounts.dependencies import RoleGate
from controlplane.accounts.roles import Role
from controlplane.app import create_app
from controlplane.db import make_engine
from controlplane.models import metadata
from controlplane.settings import ControlPlaneSettings
from inference_node.config import NodeConfig
from inference_node.contract.messages import Heartbeat, NodeState
from inference_node.contract.settings import EngineSettings
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.api import Api, api_server
from tests.support.database import sqlite_url
from tests.support.documented_errors import World, documented, join, ways
from tests.support.fake_engine import FakeEngine
from tests.support.moving_rollouts import moving_rollouts
from tests.support.postgres import fresh_database
from tests.support.ready_node import join_ready_node
from tests.support.registrations import registration

V1 = "/api/v1"
PASSWORD = "four plain words here"
pytestmark = pytest.mark.postgres


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Served]:
    engine = FakeEngine()
    config = NodeConfig(
        model=Path("/nowhere"),
        served_model_name=engine.model_name,
        data_dir=tmp_path / "node",
        host="127.0.0.1",
        port=0,
    )
    with serve_in_background(engine, config, metrics=NodeMetrics(engine.model_name, "0.0.0")) as served:
        yield served


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        engine = make_engine(url)
        schema.upgrade(engine)
        engine.dispose()
        yield url


@pytest.fixture
def world(database: str, node: Served, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "broken").mkdir()
    with (
        api_server(database, heartbeat_timeout_s=3600) as api,
        api_server(sqlite_url(tmp_path / "broken")) as broken,
        api_server(sqlite_url(tmp_path), enrolment_token=None) as closed,
    ):
        _lose_tables(broken)
        yield _furnish(api, broken, closed, node)


def test_every_documented_error_can_be_had(world: World) -> None:
    described = world.api.client.get("/openapi.json").json()
    open_to_all = _open_to_every_role(create_app(ControlPlaneSettings()))
    missing, without_grants, produced = [], 0, 0
    for operation, status in documented(described):
        if status == 403 and operation in open_to_all:
            without_grants += 1
            continue
        seen = []
        for answer in ways(world, operation, status):
            seen.append(answer.status_code)
            if answer.status_code == status:
                assert answer.headers["content-type"] == "application/problem+json", (operation, answer.text)
                assert answer.json()["detail"], operation
                produced += 1
                break
        else:
            missing.append(f"{operation[0]} {operation[1]}: {status} (had {seen})")
    assert missing == [], "\n".join(missing)
    assert produced >= 200, (produced, without_grants)


def _lose_tables(api: Api) -> None:
    """As when somebody restores half a database: every statement fails."""
    engine = make_engine(api.settings.database_url)
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))
        connection.execute(text("DROP TABLE alembic_version"))
    engine.dispose()


def _furnish(api: Api, broken: Api, closed: Api, node: Served) -> World:
    pool_id = join_ready_node(api, url=node.url, admin_token=node.admin_token)
    joined = join(api, "node-2")
    viewer = api.client.post(f"{V1}/tokens", json={"name": "reader", "role": "viewer"}).raise_for_status().json()
    other = api.client.post(f"{V1}/tokens", json={"name": "other", "role": "viewer"}).raise_for_status().json()
    signed_in = api.anonymous.post(f"{V1}/session", json={"token": viewer["token"]}).raise_for_status()
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    api.anonymous.cookies.clear()
    node_id = next(row["id"] for row in api.client.get(f"{V1}/nodes").json()["items"] if row["name"] == "node-1")
    begin = {"pool_id": pool_id, "settings": {"max_batch_size": 24}, "reason": "more load"}
    ended = _cancelled(api, begin)
    rollout = api.client.post(f"{V1}/rollouts", json=begin).raise_for_status().json()
    recording = (
        api.client.post(f"{V1}/nodes/{node_id}/profiles", json={"kind": "cpu", "seconds": 30}).raise_for_status().json()
    )
    person_id, person = _person(api)
    absent = api.client.post(f"{V1}/users", json={"name": "pam", "role": "viewer"}).raise_for_status().json()["user"]
    hook = api.client.post(f"{V1}/webhooks", json={"name": "ci", "url": "https://ci.example.com/"}).raise_for_status()
    owed = api.client.post(f"{V1}/webhooks/{hook.json()['id']}/test").raise_for_status().json()
    alert_rule = {"name": "pages", "matchers": ["severity=page"], "action": "freeze"}
    rule_id = api.client.post(f"{V1}/alert-rules", json=alert_rule).raise_for_status().json()["id"]
    policy = api.client.get(f"{V1}/pools/{pool_id}/policy").json()["document"]
    vote = {"settings_hash": rollout["to_revision"]["content_hash"]}
    settings = EngineSettings()
    beat = Heartbeat(
        instance_id="x", state=NodeState.READY, observed_generation=0, observed_epoch=0,
        config_hash=settings.content_hash(), settings=settings,
    )  # fmt: skip
    world = World(
        api=api, broken=broken, closed=closed, viewer=viewer["token"], cookie=cookie, node_token=joined["token"],
        person=person,
        ids={
            "pool_id": pool_id, "node_id": node_id, "rollout_id": rollout["id"], "token_id": other["id"],
            "recording_id": recording["id"], "decision_id": "none",
            "user_id": absent["id"], "session_id": "none", "webhook_id": hook.json()["id"], "delivery_id": owed["id"],
            "rule_id": rule_id,
        },
        bodies={
            ("POST", f"{V1}/session"): {"token": "tt_nobody"},
            ("POST", f"{V1}/tokens"): {"name": "other", "role": "viewer"},
            ("POST", f"{V1}/set-up"): {"name": "sue", "password": PASSWORD},
            ("POST", f"{V1}/invitations/look"): {"secret": "tti_nobody"},
            ("POST", f"{V1}/invitations/accept"): {"secret": "tti_nobody", "password": PASSWORD},
            ("PUT", f"{V1}/account/password"): {"present": "not the present one", "password": PASSWORD},
            ("POST", f"{V1}/account/tokens"): {"name": "laptop", "role": "viewer"},
            ("POST", f"{V1}/users"): {"name": "sam", "role": "viewer"},
            ("PATCH", f"{V1}/users/{{user_id}}"): {"role": "viewer"},
            ("POST", f"{V1}/enrolment-tokens"): {"note": "rack 4"},
            ("POST", f"{V1}/pools/{{pool_id}}/freeze"): {"reason": "stock-taking"},
            ("POST", f"{V1}/freeze"): {"reason": "stock-taking"},
            ("POST", f"{V1}/pools/{{pool_id}}/rollback"): {"revision": 99, "reason": "back"},
            ("POST", f"{V1}/nodes/{{node_id}}/profiles"): {"kind": "cpu", "seconds": 30},
            ("POST", f"{V1}/nodes/{{node_id}}/experiment"): {"settings": {"max_batch_size": 9}, "reason": "curious"},
            ("PUT", f"{V1}/pools/{{pool_id}}/policy"): policy,
            ("POST", f"{V1}/pools/{{pool_id}}/policy/dry-run"): {"document": policy},
            ("POST", f"{V1}/pools/{{pool_id}}/what-if"): {"settings": {"max_batch_size": 9}},
            ("POST", f"{V1}/rollouts"): begin,
            ("POST", f"{V1}/rollouts/{{rollout_id}}/approve"): vote,
            ("POST", f"{V1}/rollouts/{{rollout_id}}/refuse"): vote,
            ("POST", f"{V1}/webhooks"): {"name": "ops", "url": "https://ops.example.com/"},
            ("PATCH", f"{V1}/webhooks/{{webhook_id}}"): {"coalesce_s": 5},
            ("POST", f"{V1}/webhooks/{{webhook_id}}/secret"): {"keep_s": 60},
            ("POST", f"{V1}/webhooks/{{webhook_id}}/recover"): {"since": "2026-01-01T00:00:00Z"},
            ("POST", f"{V1}/alert-rules"): alert_rule | {"name": "others"},
            ("PUT", f"{V1}/alert-rules/{{rule_id}}"): alert_rule,
            ("POST", f"{V1}/alerts/alertmanager"): {"version": "4", "alerts": []},
            ("POST", f"{V1}/alerts/grafana"): {"version": "1", "alerts": []},
            ("POST", f"{V1}/agents/register"): registration("node-4").model_dump(mode="json"),
            ("POST", f"{V1}/agents/{{node_id}}/heartbeat"): beat.model_dump(mode="json"),
        },
    )  # fmt: skip
    world.special = _special(ended, joined["node_id"], person_id)
    return world


def _person(api: Api) -> tuple[str, str]:
    """Id and cookie of an admin who has chosen a password."""
    made = api.client.post(f"{V1}/users", json={"name": "pat", "role": "admin"}).raise_for_status().json()
    chosen = {"secret": made["url"].partition("#invitation=")[2], "password": PASSWORD}
    accepted = api.anonymous.post(f"{V1}/invitations/accept", json=chosen).raise_for_status()
    api.anonymous.cookies.clear()
    return made["user"]["id"], accepted.headers["set-cookie"].partition(";")[0]


def _cancelled(api: Api, begin: dict[str, Any]) -> str:
    """Id of a rollout that has ended before it began, by the hand of the controller."""
    rollout_id = str(api.client.post(f"{V1}/rollouts", json=begin).raise_for_status().json()["id"])
    api.client.post(f"{V1}/rollouts/{rollout_id}/abort").raise_for_status()
    with moving_rollouts(api.settings.database_url):
        deadline = time.monotonic() + 60
        while api.client.get(f"{V1}/rollouts/{rollout_id}").json()["ended_at"] is None:
            assert time.monotonic() < deadline, "the rollout did not end"
            time.sleep(0.02)
    return rollout_id


def _special(ended: str, agent: str, person: str) -> dict[tuple[str, str, int], Any]:
    """What needs a state of things that no general way brings about."""

    def as_agent(method: str, path: str, **options: Any) -> Any:
        return lambda w: w.send((method, path), ids={"node_id": agent}, **options)

    def again(method: str, path: str) -> Any:
        def twice(w: World) -> httpx2.Response:
            w.send((method, path))
            return w.send((method, path))

        return twice

    def after_its_end(path: str) -> Any:
        def ask(w: World) -> httpx2.Response:
            return w.send(("POST", path), ids={"rollout_id": ended})

        return ask

    def until_slowed(method: str, path: str, **options: Any) -> Any:
        def guess(w: World) -> httpx2.Response:
            for _ in range(30):
                answer = w.send((method, path), **options)
                if answer.status_code == 429:
                    break
            return answer

        return guess

    def elsewhere(path: str) -> Any:  # an address that has failed too often is refused at the other entrances too
        return lambda w: until_slowed("POST", path, token="", api=w.closed)(w)

    def to_oneself(method: str, path: str, body: Any) -> Any:
        return lambda w: w.send(
            (method, path), ids={"user_id": person}, token="", headers={"Cookie": w.person}, body=body
        )

    def used_up(w: World) -> httpx2.Response:
        made = w.send(("POST", f"{V1}/enrolment-tokens")).json()
        body = registration("node-6").model_dump(mode="json")
        w.send(("POST", f"{V1}/agents/register"), token=made["token"], body=body).raise_for_status()
        return w.send(("DELETE", f"{V1}/enrolment-tokens/{{token_id}}"), ids={"token_id": made["id"]})

    def last_admin(w: World) -> httpx2.Response:
        # Where nobody has a password.
        admin = next(row["id"] for row in w.closed.client.get(f"{V1}/tokens").json()["items"] if row["role"] == "admin")
        return w.send(("DELETE", f"{V1}/tokens/{{token_id}}"), ids={"token_id": admin}, api=w.closed)

    def unfinished(w: World) -> httpx2.Response:
        w.send(("POST", f"{V1}/nodes/{{node_id}}/profiles"))
        rows = w.send(("GET", f"{V1}/nodes/{{node_id}}/profiles")).json()["items"]
        running = next(row["id"] for row in rows if row["state"] == "running")
        return w.send(("GET", file), ids={"recording_id": running})

    def other_model(w: World) -> httpx2.Response:
        body = registration("node-5", model="other/model").model_dump(mode="json")
        return w.send(("POST", f"{V1}/agents/register"), body=body)

    def name_of_another(w: World) -> httpx2.Response:
        w.send(("POST", f"{V1}/webhooks"))
        return w.send(("PATCH", f"{V1}/webhooks/{{webhook_id}}"), body={"name": "ops"})

    def rule_of_another_name(w: World) -> httpx2.Response:
        w.send(("POST", f"{V1}/alert-rules"))
        rule = ("PUT", f"{V1}/alert-rules/{{rule_id}}")
        return w.send(rule, body=w.bodies[rule] | {"name": "others"})

    file = f"{V1}/nodes/{{node_id}}/profiles/{{recording_id}}/file"
    session = ("POST", f"{V1}/session")
    verbs = ("pause", "resume", "promote", "abort", "rollback", "approve", "refuse")
    found: dict[tuple[str, str, int], Any] = {
        (*session, 401): lambda w: w.send(session, token=""),
        (*session, 403): lambda w: w.send(session, token="", headers={"Sec-Fetch-Site": "cross-site"}),
        (*session, 429): elsewhere(session[1]),
        ("POST", f"{V1}/set-up", 409): lambda w: w.send(("POST", f"{V1}/set-up")),
        ("POST", f"{V1}/invitations/look", 429): elsewhere(f"{V1}/invitations/look"),
        ("POST", f"{V1}/invitations/accept", 429): elsewhere(f"{V1}/invitations/accept"),
        ("PUT", f"{V1}/account/password", 429): until_slowed("PUT", f"{V1}/account/password"),
        ("POST", f"{V1}/users", 409): again("POST", f"{V1}/users"),
        ("PATCH", f"{V1}/users/{{user_id}}", 409): to_oneself("PATCH", f"{V1}/users/{{user_id}}", {"disabled": True}),
        ("POST", f"{V1}/users/{{user_id}}/reset", 409): to_oneself("POST", f"{V1}/users/{{user_id}}/reset", None),
        ("POST", f"{V1}/tokens", 409): lambda w: w.send(
            ("POST", f"{V1}/tokens"), body={"name": "pat", "role": "viewer"}
        ),
        ("DELETE", f"{V1}/enrolment-tokens/{{token_id}}", 409): used_up,
        ("DELETE", f"{V1}/tokens/{{token_id}}", 409): last_admin,
        ("POST", f"{V1}/webhook-deliveries/{{delivery_id}}/redeliver", 409): again(
            "POST", f"{V1}/webhook-deliveries/{{delivery_id}}/redeliver"
        ),
        ("DELETE", f"{V1}/nodes/{{node_id}}", 409): lambda w: w.send(("DELETE", f"{V1}/nodes/{{node_id}}")),
        ("POST", f"{V1}/freeze", 409): again("POST", f"{V1}/freeze"),
        ("POST", f"{V1}/pools/{{pool_id}}/freeze", 409): again("POST", f"{V1}/pools/{{pool_id}}/freeze"),
        ("POST", f"{V1}/pools/{{pool_id}}/rollback", 409): again("POST", f"{V1}/pools/{{pool_id}}/rollback"),
        ("POST", f"{V1}/nodes/{{node_id}}/profiles", 409): again("POST", f"{V1}/nodes/{{node_id}}/profiles"),
        ("GET", file, 409): unfinished,
        ("POST", f"{V1}/webhooks", 409): again("POST", f"{V1}/webhooks"),
        ("PATCH", f"{V1}/webhooks/{{webhook_id}}", 409): name_of_another,
        ("POST", f"{V1}/alert-rules", 409): again("POST", f"{V1}/alert-rules"),
        ("PUT", f"{V1}/alert-rules/{{rule_id}}", 409): rule_of_another_name,
        ("GET", f"{V1}/pools/{{pool_id}}/scaling", 409): lambda w: w.send(("GET", f"{V1}/pools/{{pool_id}}/scaling")),
        # No controller runs here, so no decision has been made.
        ("POST", f"{V1}/pools/{{pool_id}}/what-if", 409): lambda w: w.send(("POST", f"{V1}/pools/{{pool_id}}/what-if")),
        ("POST", f"{V1}/rollouts", 409): again("POST", f"{V1}/rollouts"),
        ("PUT", f"{V1}/pools/{{pool_id}}/policy", 428): again("PUT", f"{V1}/pools/{{pool_id}}/policy"),
        ("PUT", f"{V1}/pools/{{pool_id}}/policy", 404): lambda w: w.send(
            ("PUT", f"{V1}/pools/{{pool_id}}/policy"), ids={"pool_id": "none"}, headers={"If-Match": '"0"'}
        ),
        ("PUT", f"{V1}/pools/{{pool_id}}/policy", 412): lambda w: w.send(
            ("PUT", f"{V1}/pools/{{pool_id}}/policy"), headers={"If-Match": '"7"'}
        ),
        ("POST", f"{V1}/agents/register", 403): lambda w: w.send(("POST", f"{V1}/agents/register"), token=w.node_token),
        ("POST", f"{V1}/agents/register", 409): other_model,
        # It has registered, and was never ready.
        ("POST", f"{V1}/nodes/{{node_id}}/experiment", 409): as_agent("POST", f"{V1}/nodes/{{node_id}}/experiment"),
        ("POST", f"{V1}/agents/{{node_id}}/heartbeat", 422): as_agent(
            "POST", f"{V1}/agents/{{node_id}}/heartbeat", body=[]
        ),
        ("GET", f"{V1}/agents/{{node_id}}/desired", 422): as_agent(
            "GET", f"{V1}/agents/{{node_id}}/desired", params={"after": -1}
        ),
        ("GET", "/readyz", 503): lambda w: w.send(("GET", "/readyz"), api=w.broken),
    }
    for verb in verbs:
        path = f"{V1}/rollouts/{{rollout_id}}/{verb}"
        found["POST", path, 409] = after_its_end(path)
    return found


def _open_to_every_role(app: FastAPI) -> set[tuple[str, str]]:
    """Operations whose gate is the least role: every signed-in person passes."""
    lowest, found = next(iter(Role)), set()
    for route in iter_route_contexts(app.routes):
        gates = {call.role for call in _gates(route) if isinstance(call, RoleGate)}
        if gates and gates <= {lowest}:
            found |= {(method, route.path or "") for method in route.methods or ()} & {("GET", route.path or "")}
    return found


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _gates(route: Any) -> Iterator[Any]:
    dependant = getattr(route, "dependant", None)
    return iter(()) if dependant is None else _calls(dependant)
