"""The API process over real HTTP, on SQLite and PostgreSQL."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.db import make_engine, session_scope
from controlplane.fleets import service
from inference_node.contract.messages import Heartbeat, NodeRegistered, NodeState, SettingsPush
from inference_node.contract.settings import KNOBS, EngineSettings
from tests.support.api import ADMIN_TOKEN, ENROLMENT_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.registrations import registration

LARGE = EngineSettings(max_batch_size=32)


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_server(database_url) as api:
        yield api


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for tests that read, or touch only what they made."""
    with api_server(sqlite_url(tmp_path_factory.mktemp("api"))) as api:
        yield api


def until(check: Callable[[], Any], within_s: float = 20.0) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError("did not come true")


def enrolled(token: str = ENROLMENT_TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def join(api: Api, name: str = "node-1", **changes: Any) -> NodeRegistered:
    body = registration(name, **changes).model_dump(mode="json")
    response = api.anonymous.post("/api/v1/agents/register", json=body, headers=enrolled())
    assert response.status_code == 201, response.text
    return NodeRegistered.model_validate(response.json())


def wish(api: Api, node_id: str, settings: EngineSettings = LARGE) -> int:
    """What the controller does: a new revision, desired of one node."""
    engine = make_engine(api.settings.database_url)
    with session_scope(engine) as session:
        node = service.get_node(session, node_id)
        now = node.last_heartbeat_at
        made = service.create_revision(session, node.pool, settings, created_by="t", reason="", now=now)
        generation = service.set_desired(session, node, made, epoch=1, now=now)
    engine.dispose()
    return generation


def problem(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "trace_id"} <= set(body)
    assert body["status"] == status
    assert body["trace_id"] == response.headers["x-request-id"]
    return body


class TestNodesLife:
    def test_a_node_joins_hears_a_wish_reports_it_and_is_shown(self, api: Api) -> None:
        me = join(api)
        own = enrolled(me.token)
        nothing = api.anonymous.get(f"/api/v1/agents/{me.node_id}/desired?after=0", headers=own)
        assert nothing.status_code == 204

        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(
                lambda: httpx2.get(
                    f"{api.url}/api/v1/agents/{me.node_id}/desired?after=0&wait_s=60", headers=own, timeout=20
                )
            )
            generation = wish(api, me.node_id)
            push = SettingsPush.model_validate(poll.result(timeout=40).json())
        assert (push.generation, push.settings) == (generation, LARGE)

        beat = Heartbeat(
            instance_id="node-1-first-life",
            state=NodeState.READY,
            observed_generation=generation,
            observed_epoch=1,
            config_hash=LARGE.content_hash(),
            settings=LARGE,
            running=3,
        )
        url = f"/api/v1/agents/{me.node_id}/heartbeat"
        reply = api.anonymous.post(url, json=beat.model_dump(mode="json"), headers=own)
        assert reply.json() == {
            "desired_generation": generation, "desired_hash": LARGE.content_hash(), "watch": None,
        }  # fmt: skip

        node = api.client.get(f"/api/v1/nodes/{me.node_id}").json()
        assert (node["health"], node["in_sync"], node["running"]) == ("ready", True, 3)
        assert node["desired"]["settings"]["max_batch_size"] == node["observed"]["settings"]["max_batch_size"] == 32
        pool_out = api.client.get("/api/v1/fleet").json()["pools"][0]
        assert (pool_out["nodes"], pool_out["ready"], pool_out["in_sync"]) == (1, 1, 1)
        told = [e["kind"] for e in api.client.get(f"/api/v1/events?node_id={me.node_id}").json()["items"]]
        assert told == ["node.settings_applied", "node.registered"]

    def test_a_new_life_gets_a_new_token_and_the_old_one_ends(self, api: Api) -> None:
        first = join(api)
        second = join(api, instance_id="second-life")
        assert second.node_id == first.node_id
        url = f"/api/v1/agents/{first.node_id}/desired"
        assert "register again" in problem(api.anonymous.get(url, headers=enrolled(first.token)), 401)["detail"]
        assert api.anonymous.get(url, headers=enrolled(second.token)).status_code == 204

    def test_a_node_cannot_speak_for_another(self, api: Api) -> None:
        one, two = join(api, "node-1"), join(api, "node-2")
        problem(api.anonymous.get(f"/api/v1/agents/{one.node_id}/desired", headers=enrolled(two.token)), 401)

    def test_joining_needs_the_enrolment_token_and_the_pools_model(self, api: Api) -> None:
        body = registration().model_dump(mode="json")
        refused = api.anonymous.post("/api/v1/agents/register", json=body, headers=enrolled("wrong"))
        assert "CONTROLPLANE_ENROLMENT_TOKEN" in problem(refused, 401)["detail"]
        join(api)
        other = registration("node-2", model="other").model_dump(mode="json")
        mismatch = problem(api.anonymous.post("/api/v1/agents/register", json=other, headers=enrolled()), 409)
        assert (mismatch["node_model"], mismatch["pool_model"]) == ("other", "tiny")

    def test_a_later_contract_with_fields_we_do_not_know_is_understood(self, api: Api) -> None:
        body = registration().model_dump(mode="json") | {"colour": "green", "contract_version": 2}
        assert api.anonymous.post("/api/v1/agents/register", json=body, headers=enrolled()).status_code == 201

    def test_fifty_nodes_wait_at_once_and_only_the_one_that_is_meant_is_woken(self, api: Api) -> None:
        nodes = [join(api, f"node-{number}") for number in range(50)]

        def poll(me: NodeRegistered) -> int:
            url = f"{api.url}/api/v1/agents/{me.node_id}/desired?after=0&wait_s=4"
            return httpx2.get(url, headers=enrolled(me.token), timeout=30).status_code

        with ThreadPoolExecutor(50) as pool:
            polls = [pool.submit(poll, me) for me in nodes]
            wish(api, nodes[7].node_id)
            # Meanwhile the API answers others: nobody who waits holds a thread or a session.
            assert api.client.get("/api/v1/nodes").status_code == 200
            statuses = [future.result(timeout=60) for future in polls]
        assert statuses == [200 if number == 7 else 204 for number in range(50)]

    def test_prometheus_finds_the_nodes(self, api: Api) -> None:
        assert api.anonymous.get("/api/v1/sd/prometheus", headers=enrolled()).json() == []
        me = join(api, url="https://10.0.0.7:8701/gpu0/")
        labels = {"fleet": "default", "pool": "main", "node": "node-1", "node_id": me.node_id, "model": "tiny"}
        labels |= {"__scheme__": "https", "__metrics_path__": "/gpu0/metrics"}
        for headers in (enrolled(), enrolled(ADMIN_TOKEN)):
            found = api.anonymous.get("/api/v1/sd/prometheus", headers=headers)
            assert found.headers["content-type"] == "application/json"
            assert found.json() == [{"targets": ["10.0.0.7:8701"], "labels": labels}]
        problem(api.anonymous.get("/api/v1/sd/prometheus"), 401)


class TestFleet:
    def test_freezing_is_shown_and_lifted(self, api: Api) -> None:
        join(api)
        pool_id = api.client.get("/api/v1/pools").json()["items"][0]["id"]
        assert api.client.post(f"/api/v1/pools/{pool_id}/freeze", json={"reason": "release"}).status_code == 201
        problem(api.client.post(f"/api/v1/pools/{pool_id}/freeze", json={"reason": "again"}), 409)
        assert api.client.get(f"/api/v1/pools/{pool_id}").json()["frozen"]["reason"] == "release"
        assert api.client.get("/api/v1/system").json()["frozen_pools"] == 1
        assert api.client.delete(f"/api/v1/pools/{pool_id}/freeze").status_code == 204
        assert api.client.get(f"/api/v1/pools/{pool_id}").json()["frozen"] is None

    def test_everything_is_frozen_and_let_go_of_at_once(self, api: Api) -> None:
        join(api)
        frozen = api.client.post("/api/v1/freeze", json={"reason": "incident 7"})
        assert (frozen.status_code, frozen.json()["actor"]) == (201, "bootstrap admin")
        assert "incident 7" in problem(api.client.post("/api/v1/freeze", json={"reason": "again"}), 409)["detail"]
        problem(api.client.post("/api/v1/freeze", json={"reason": ""}), 422)
        assert api.client.get("/api/v1/system").json()["frozen"] == frozen.json()
        assert api.client.get("/api/v1/fleet").json()["frozen"] == frozen.json()
        assert api.client.get("/api/v1/system").json()["frozen_pools"] == 1
        assert "controlplane_everything_frozen 1.0" in api.anonymous.get("/metrics").text
        assert api.client.delete("/api/v1/freeze").status_code == 204
        assert api.client.delete("/api/v1/freeze").status_code == 204
        assert api.client.get("/api/v1/system").json()["frozen"] is None
        kinds = [row["kind"] for row in api.client.get("/api/v1/events?kind=control.*").json()["items"]]
        assert kinds == ["control.unfrozen", "control.frozen"]

    def test_revisions_are_paged_newest_first(self, api: Api) -> None:
        me = join(api)
        for size in (10, 11, 12):
            wish(api, me.node_id, EngineSettings(max_batch_size=size))
        pool_id = api.client.get("/api/v1/pools").json()["items"][0]["id"]
        first = api.client.get(f"/api/v1/revisions?pool_id={pool_id}&limit=3").json()
        rest = api.client.get(f"/api/v1/revisions?pool_id={pool_id}&cursor={first['next_cursor']}").json()
        assert [r["number"] for r in first["items"] + rest["items"]] == [4, 3, 2, 1]
        assert rest["next_cursor"] is None

    def test_knobs_are_those_of_the_contract(self, shared: Api) -> None:
        knobs = shared.client.get("/api/v1/knobs").json()["items"]
        assert [knob["name"] for knob in knobs] == list(KNOBS)
        assert knobs[0] | {"help": ""} == {
            "name": "max_batch_size", "kind": "int", "unit": "sequences", "minimum": 1, "maximum": 512, "choices": [],
            "default": 8, "apply_mode": "live", "safe_direction": "lower", "changes_numerics": False, "help": "",
        }  # fmt: skip

    def test_the_system_says_what_does_not_answer_and_what_to_do(self, api: Api) -> None:
        system = api.client.get("/api/v1/system").json()
        assert system["prometheus"]["ok"] is False
        assert "CONTROLPLANE_PROMETHEUS_URL" in system["prometheus"]["detail"]
        assert system["redis"]["ok"] is False
        assert "CONTROLPLANE_REDIS_URL" in system["redis"]["detail"]
        assert system["leader"] is None
        assert [(p["kind"], p["alive"]) for p in system["processes"]] == [("api", True)]


class TestAccess:
    def test_a_browser_signs_in_changes_something_and_signs_out(self, api: Api) -> None:
        join(api)
        with httpx2.Client(base_url=api.url, trust_env=False) as browser:
            signed_in = browser.post("/api/v1/session", json={"token": ADMIN_TOKEN})
            assert signed_in.status_code == 204
            cookie = signed_in.headers["set-cookie"]
            assert re.search(r"HttpOnly", cookie)
            assert re.search(r"SameSite=lax", cookie)
            assert ADMIN_TOKEN not in cookie
            who = browser.get("/api/v1/session").json()
            assert (who["name"], who["role"], who["set_up_due"]) == ("bootstrap admin", "admin", True)
            pool_id = browser.get("/api/v1/pools").json()["items"][0]["id"]
            url = f"/api/v1/pools/{pool_id}/freeze"
            foreign = browser.post(url, json={"reason": "evil"}, headers={"sec-fetch-site": "cross-site"})
            assert "another site" in problem(foreign, 403)["detail"]
            own = browser.post(url, json={"reason": "r"}, headers={"sec-fetch-site": "same-origin"})
            assert own.status_code == 201
            kept = dict(browser.cookies)
            assert browser.delete("/api/v1/session").status_code == 204
            after = httpx2.get(
                f"{api.url}/api/v1/pools", headers={"cookie": f"trimtab_session={kept['trimtab_session']}"}
            )
            assert "session has ended" in problem(after, 401)["detail"]

    def test_a_viewer_reads_and_changes_nothing(self, api: Api) -> None:
        join(api)
        made = api.client.post("/api/v1/tokens", json={"name": "tv", "role": "viewer"})
        assert made.status_code == 201
        viewer = enrolled(made.json()["token"])
        pool_id = api.anonymous.get("/api/v1/pools", headers=viewer).json()["items"][0]["id"]
        refused = api.anonymous.post(f"/api/v1/pools/{pool_id}/freeze", json={"reason": "x"}, headers=viewer)
        assert problem(refused, 403)["required_role"] == "operator"
        problem(api.anonymous.get("/api/v1/tokens", headers=viewer), 403)
        assert api.client.delete(f"/api/v1/tokens/{made.json()['id']}").status_code == 204
        problem(api.anonymous.get("/api/v1/pools", headers=viewer), 401)

    def test_tokens_are_listed_without_their_secrets(self, api: Api) -> None:
        secret = api.client.post("/api/v1/tokens", json={"name": "ci", "role": "operator"}).json()["token"]
        listed = api.client.get("/api/v1/tokens")
        assert [t["name"] for t in listed.json()["items"]] == ["bootstrap admin", "ci"]
        assert secret not in listed.text
        assert ADMIN_TOKEN not in listed.text

    def test_guessing_is_slowed_down(self, api: Api) -> None:
        for _ in range(10):
            problem(api.anonymous.post("/api/v1/session", json={"token": "tt_guess"}), 401)
        stopped = api.anonymous.post("/api/v1/session", json={"token": "tt_guess"})
        problem(stopped, 429)
        assert 1 <= int(stopped.headers["retry-after"]) <= 61

    def test_every_operation_refuses_the_anonymous(self, shared: Api) -> None:
        paths = shared.anonymous.get("/openapi.json").json()["paths"]
        asked = 0
        for path, item in paths.items():
            for method, operation in item.items():
                if operation["x-access"] == "anyone":
                    continue
                asked += 1
                response = shared.anonymous.request(method.upper(), re.sub(r"\{.*?\}", "x", path), json={})
                assert response.status_code == 401, f"{method} {path}: {response.status_code} {response.text}"
        assert asked > 20


class TestErrors:
    def test_all_are_problems(self, shared: Api) -> None:
        client = shared.client
        problem(client.get("/api/v1/nope"), 404)
        problem(client.get("/api/v1/nodes/nope"), 404)
        problem(client.get("/api/v1/events?limit=0"), 422)
        problem(client.get("/api/v1/events?cursor=%2A%2A"), 422)
        not_allowed = client.put("/api/v1/fleet")
        problem(not_allowed, 405)
        assert not_allowed.headers["allow"] == "GET"

    def test_fields_are_named(self, shared: Api) -> None:
        body = problem(shared.client.post("/api/v1/tokens", json={"role": "king", "colour": 1}), 422)
        assert {e["field"] for e in body["errors"]} == {"name", "role", "colour"}

    def test_what_is_not_json_is_told_so(self, shared: Api) -> None:
        response = shared.client.post("/api/v1/tokens", content=b"{oops", headers={"content-type": "application/json"})
        assert "not JSON" in problem(response, 422)["detail"]

    @pytest.mark.parametrize("body", [b"\xff\xfe{}", b"[" * 100_000])
    def test_what_no_parser_reads_is_told_so(self, shared: Api, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        response = shared.client.post("/api/v1/rollouts", content=body, headers=headers)
        assert "not JSON" in problem(response, 422)["detail"]

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_too_large_is_refused(self, shared: Api, chunked: bool) -> None:
        body = b"x" * 1_000_001
        content: Any = iter([body]) if chunked else body
        response = shared.client.post("/api/v1/tokens", content=content, headers={"content-type": "application/json"})
        problem(response, 413)

    def test_a_zero_byte_is_the_callers_mistake(self, api: Api) -> None:
        """PostgreSQL refuses it in any text, SQLite finds nothing under it."""
        assert api.client.get("/api/v1/nodes/%00").status_code in {404, 422}

    def test_a_trace_id_that_is_sent_is_kept_and_a_strange_one_is_not(self, shared: Api) -> None:
        assert shared.client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert shared.client.get("/livez", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"

    def test_a_bug_shows_nothing_but_its_trace_id(self, shared: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("the secret inside")

        monkeypatch.setattr(service, "list_pools", broken)
        body = problem(shared.client.get("/api/v1/pools"), 500)
        assert "secret" not in json.dumps(body)

    def test_a_database_that_is_gone_is_503_and_not_ready(self, tmp_path: Path) -> None:
        with api_server(sqlite_url(tmp_path)) as api:
            assert api.anonymous.get("/readyz").status_code == 200
            engine = make_engine(api.settings.database_url)
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE alembic_version")
            engine.dispose()
            assert "trimtab migrate" in problem(api.anonymous.get("/readyz"), 503)["detail"]
            assert api.anonymous.get("/livez").text == "ok"


class TestStream:
    def test_events_come_as_they_happen_and_what_was_missed_is_replayed(self, api: Api) -> None:
        heard: list[tuple[str, str, str]] = []
        connected = threading.Event()

        def listen(last: str | None, stop_after: int) -> None:
            headers = {"Last-Event-ID": last} if last else {}
            with api.client.stream("GET", "/api/v1/events/stream", headers=headers, timeout=30) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                message: dict[str, str] = {}
                for line in response.iter_lines():
                    if line.startswith(": connected"):
                        connected.set()
                    name, _, value = line.partition(": ")
                    message[name] = value
                    if not line and "data" in message:
                        heard.append((message.get("id", ""), message["event"], message["data"]))
                        message = {}
                        if len(heard) == stop_after:
                            return

        listener = threading.Thread(target=listen, args=(None, 2))
        listener.start()
        assert connected.wait(20)
        me = join(api)  # pool.created, node.registered
        listener.join(30)
        assert [kind for _, kind, _ in heard] == ["pool.created", "node.registered"]
        assert json.loads(heard[1][2])["node_id"] == me.node_id

        first = heard[0][0]
        heard.clear()
        listen(first, 1)
        assert [kind for _, kind, _ in heard] == ["node.registered"]

    def test_an_open_stream_and_a_waiting_node_do_not_keep_the_server_from_stopping(self, tmp_path: Path) -> None:
        with api_server(sqlite_url(tmp_path)) as api:
            me = join(api)
            ended: list[str] = []
            waiting = threading.Event()

            def stream() -> None:
                with httpx2.stream(
                    "GET", f"{api.url}/api/v1/events/stream", headers=enrolled(ADMIN_TOKEN), timeout=60
                ) as response:
                    for line in response.iter_lines():
                        if line.startswith(": connected"):
                            waiting.set()
                ended.append("stream")

            thread = threading.Thread(target=stream, daemon=True)
            thread.start()
            assert waiting.wait(20)
            assert me.node_id
        thread.join(20)
        assert ended == ["stream"]


class TestPages:
    def test_metrics_are_prometheus_text_and_count_what_is_in_sql(self, api: Api) -> None:
        join(api)
        text = api.anonymous.get("/metrics").text
        samples = {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }
        assert samples[("controlplane_database_up", ())] == 1
        assert samples[("controlplane_nodes", (("fleet", "default"), ("health", "starting"), ("pool", "main")))] == 1
        assert samples[("controlplane_events_total", (("kind", "node.registered"),))] == 1
        assert samples[("controlplane_processes_alive", (("kind", "api"),))] == 1
        assert ("process_resident_memory_bytes", ()) in samples

    def test_docs_ask_nothing_of_other_hosts(self, shared: Api) -> None:
        page = shared.anonymous.get("/docs")
        script = shared.anonymous.get("/docs/page.js")
        assert (page.status_code, script.status_code) == (200, 200)
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)
        assert "https://" not in script.text

    def test_pages_carry_headers_that_keep_browsers_safe(self, shared: Api) -> None:
        headers = shared.anonymous.get("/", headers={"accept": "text/html"}).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert shared.client.get("/api/v1/fleet").headers["cache-control"] == "no-store"
