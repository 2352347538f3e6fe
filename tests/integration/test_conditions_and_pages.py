"""Changes on condition, lists in pages, and the evidence of a verdict, over HTTP and on both databases."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from controlplane.client import Client
from controlplane.db import make_engine, session_scope
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Fleet, Pool
from controlplane.openapi import COMMITTED
from controlplane.rollouts.phases import RolloutPhase
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.ready_node import join_ready_node
from tests.support.registrations import registration
from tests.support.rollouts_in_sql import NOW, drive, lab

V1 = "/api/v1"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_server(database_url, heartbeat_timeout_s=3600) as running:
        yield running


@pytest.fixture
def api_on_sqlite(tmp_path: Path) -> Iterator[Api]:
    """For what does not depend on the database."""
    with api_server(sqlite_url(tmp_path), heartbeat_timeout_s=3600) as running:
        yield running


@pytest.fixture
def pool_id(api: Api) -> str:
    return join_ready_node(api)


def begin(api: Api, pool_id: str, batch: int = 24) -> str:
    body = {"pool_id": pool_id, "settings": {"max_batch_size": batch}, "reason": "more load"}
    return str(api.client.post(f"{V1}/rollouts", json=body).raise_for_status().json()["id"])


def tag(api: Api, path: str) -> str:
    return str(api.client.get(path).raise_for_status().headers["ETag"])


def send(api: Api, method: str, path: str, if_match: str, body: dict[str, Any] | None = None) -> httpx2.Response:
    return api.client.request(method, path, json=body, headers={"If-Match": if_match})


def test_every_change_of_one_thing_takes_a_condition() -> None:
    """By the description: changes of a pool, a node or a rollout, and what would be answered to a stale one."""
    found = json.loads(COMMITTED.read_text())
    without = []
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            is_change = method in {"post", "put", "patch", "delete"}
            if not is_change or not path.startswith((f"{V1}/pools/{{", f"{V1}/nodes/{{", f"{V1}/rollouts/{{")):
                continue
            takes = any(row["name"].lower() == "if-match" for row in operation.get("parameters", []))
            if not takes or "412" not in operation["responses"]:
                without.append(f"{method.upper()} {path}")
    # Of a recording nothing is changed but made; dry runs and what-ifs change nothing.
    assert [row for row in without if "/profiles" not in row and "dry-run" not in row and "what-if" not in row] == []


class TestRaces:
    def test_of_two_with_one_tag_one_gets_through(self, api: Api, pool_id: str) -> None:
        path = f"{V1}/pools/{pool_id}"
        seen = tag(api, path)

        def freeze(who: str) -> int:
            with httpx2.Client(
                base_url=api.url, headers=dict(api.client.headers), timeout=60, trust_env=False
            ) as client:
                headers = {"If-Match": seen}
                return client.post(f"{path}/freeze", json={"reason": who}, headers=headers).status_code

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(freeze, ("alice", "bob"))) == [201, 412]


class TestConditions:
    @pytest.fixture
    def api(self, api_on_sqlite: Api) -> Api:
        return api_on_sqlite

    def test_an_abort_meant_for_what_was_seen_is_refused_after_a_move(self, api: Api, pool_id: str) -> None:
        path = f"{V1}/rollouts/{begin(api, pool_id)}"
        seen = tag(api, path)
        paused = send(api, "POST", f"{path}/pause", seen)
        assert (paused.status_code, paused.headers["ETag"] != seen) == (202, True)
        stale = send(api, "POST", f"{path}/abort", seen)
        assert (stale.status_code, stale.json()["etag"]) == (412, paused.headers["ETag"])
        assert stale.headers["content-type"] == "application/problem+json"
        assert api.client.get(path).json()["request"]["verb"] == "pause"
        assert send(api, "POST", f"{path}/abort", tag(api, path)).status_code == 202

    def test_without_one_it_is_meant_for_whatever_is_there(self, api: Api, pool_id: str) -> None:
        path = f"{V1}/rollouts/{begin(api, pool_id)}"
        assert api.client.post(f"{path}/pause").status_code == 202
        assert api.client.post(f"{path}/abort").status_code == 202

    def test_a_freeze_and_its_end(self, api: Api, pool_id: str) -> None:
        path = f"{V1}/pools/{pool_id}"
        before = tag(api, path)
        assert send(api, "POST", f"{path}/freeze", before, {"reason": "stock-taking"}).status_code == 201
        assert send(api, "DELETE", f"{path}/freeze", before).status_code == 412
        assert send(api, "DELETE", f"{path}/freeze", tag(api, path)).status_code == 204
        assert send(api, "POST", f"{path}/rollback", before, {"revision": 1, "reason": "back"}).status_code == 409
        assert send(api, "POST", f"{path}/rollback", '"x"', {"revision": 1, "reason": "back"}).status_code == 412

    def test_a_node_that_came_back_is_not_removed_by_who_saw_it_gone(self, api: Api, pool_id: str) -> None:
        node = api.client.get(f"{V1}/nodes").json()["items"][0]["id"]
        seen = tag(api, f"{V1}/nodes/{node}")
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            again = registration("node-1").model_copy(update={"instance_id": "second-life"})
            fleets.register_node(session, again, now=NOW)
        engine.dispose()
        path = f"{V1}/nodes/{node}?force=true"
        assert send(api, "DELETE", path, seen).status_code == 412
        assert send(api, "POST", f"{V1}/nodes/{node}/release", seen).status_code == 412
        assert send(api, "DELETE", path, tag(api, f"{V1}/nodes/{node}")).status_code == 204

    def test_a_vote_counts_for_the_rollout_as_it_was_read(self, api: Api, pool_id: str) -> None:
        path = f"{V1}/rollouts/{begin(api, pool_id)}"
        body = {"settings_hash": api.client.get(path).json()["to_revision"]["content_hash"]}
        seen = tag(api, path)
        assert send(api, "POST", f"{path}/pause", seen).status_code == 202
        for vote in ("approve", "refuse"):
            assert send(api, "POST", f"{path}/{vote}", seen, body).status_code == 412

    def test_a_header_that_is_no_tag_is_422(self, api: Api, pool_id: str) -> None:
        answer = send(api, "DELETE", f"{V1}/pools/{pool_id}/freeze", '"open')
        assert (answer.status_code, "If-Match" in answer.json()["detail"]) == (422, True)


class TestPages:
    @pytest.fixture
    def fleet(self, api: Api, pool_id: str) -> Api:
        """Five nodes in the first of four pools; the pools of one moment."""
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            for number in range(2, 6):
                fleets.register_node(session, registration(f"node-{number}"), now=NOW)
            fleet = session.query(Fleet).first()
            assert fleet is not None
            for number in range(3):
                session.add(Pool(fleet_id=fleet.id, name=f"extra-{number}", model="m", created_at=NOW))
        engine.dispose()
        return api

    def test_walking_by_the_link_meets_each_once_in_order(self, fleet: Api) -> None:
        for what in ("pools", "nodes"):
            self.walk(fleet, what)

    def walk(self, fleet: Api, what: str) -> None:
        whole = [row["id"] for row in fleet.client.get(f"{V1}/{what}").json()["items"]]
        assert len(whole) >= 4
        met: list[str] = []
        path: str | None = f"{V1}/{what}?limit=2"
        while path is not None:
            answer = fleet.client.get(path).raise_for_status()
            assert len(answer.json()["items"]) <= 2
            met += [row["id"] for row in answer.json()["items"]]
            assert (answer.json()["next_cursor"] is None) == ("next" not in answer.links)
            path = answer.links["next"]["url"] if answer.links else None
        assert met == whole

    def test_a_filter_stays_in_the_link(self, fleet: Api) -> None:
        pool_id = fleet.client.get(f"{V1}/nodes").json()["items"][0]["pool_id"]
        first = fleet.client.get(f"{V1}/nodes", params={"limit": 1, "pool_id": pool_id})
        assert f"pool_id={pool_id}" in first.links["next"]["url"]

    def test_a_cursor_of_somebody_else_is_422(self, fleet: Api) -> None:
        pool_id = fleet.client.get(f"{V1}/pools").json()["items"][0]["id"]
        for what in ("pools", "nodes", "decisions", "events", f"pools/{pool_id}/forecasts/warnings"):
            for cursor in ("", "bm9uc2Vuc2U", "AAAA", "x" * 100):
                answer = fleet.client.get(f"{V1}/{what}", params={"cursor": cursor})
                assert answer.status_code == 422, (what, cursor, answer.text)

    def test_histories_carry_the_link_too(self, fleet: Api) -> None:
        answer = fleet.client.get(f"{V1}/events", params={"limit": 1})
        following = fleet.client.get(answer.links["next"]["url"]).json()["items"]
        assert following[0]["id"] < answer.json()["items"][0]["id"]

    def test_the_client_follows_pages_by_itself(self, fleet: Api) -> None:
        with Client(fleet.url, ADMIN_TOKEN) as client:
            assert len(client.nodes()) == 5
            assert len(list(client.pages("/nodes", page=2))) == 5


class TestAnalysis:
    @pytest.fixture
    def api(self, api_on_sqlite: Api) -> Api:
        return api_on_sqlite

    def test_shows_what_the_verdict_rests_on(self, api: Api) -> None:
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            made = lab(session)
            rollout = made.begin()
            drive(made, rollout, NOW, until=RolloutPhase.COMPLETED)
            rollout_id = rollout.id
        engine.dispose()
        found = api.client.get(f"{V1}/rollouts/{rollout_id}/analysis").raise_for_status().json()
        assert (found["canary"], found["control"]) == (["node-1"], ["node-2"])
        assert len(found["before"]) == found["windows_wanted"] == 8
        assert len(found["after"]) >= 8
        assert found["before"][-1]["end"] <= found["judged_from"] < found["after"][0]["end"]
        assert found["after"][0]["control"]["requests"] > 0
        latest = found["analyses"][0]
        assert latest["verdict"] == "PASS"
        latency = next(row for row in latest["measurements"] if row["metric"].startswith("itl"))
        assert latency["ci_low"] <= latency["effect_ratio"] <= latency["ci_high"]
        assert (latency["margin"], latency["samples_canary"] >= 8, 0 <= latency["power"] <= 1) == (0.1, True, True)

    def test_is_empty_before_anything_was_measured(self, api: Api, pool_id: str) -> None:
        found = api.client.get(f"{V1}/rollouts/{begin(api, pool_id)}/analysis").raise_for_status().json()
        assert (found["before"], found["after"], found["analyses"], found["judged_from"]) == ([], [], [], None)

    def test_of_no_rollout_is_404(self, api: Api) -> None:
        assert api.client.get(f"{V1}/rollouts/none/analysis").status_code == 404
