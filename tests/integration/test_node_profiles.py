"""Recordings of a node asked for at the control plane: a real API, a real node's server, and the processor time of both."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inference_node.config import NodeConfig
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from tests.support.api import ENROLMENT_TOKEN, Api, api_server
from tests.support.database import sqlite_url
from tests.support.fake_engine import FakeEngine
from tests.support.registrations import registration

ORDER = {"kind": "cpu", "seconds": 0.2}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server(sqlite_url(tmp_path_factory.mktemp("profiles"))) as api:
        yield api


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Served]:
    engine = FakeEngine()
    config = NodeConfig(
        model=Path("/nowhere"), served_model_name=engine.model_name, data_dir=tmp_path, host="127.0.0.1", port=0
    )
    with serve_in_background(engine, config, metrics=NodeMetrics(engine.model_name, "0.0.0")) as served:
        yield served


@pytest.fixture
def profiles(api: Api, node: Served) -> str:
    """Path of the node's recordings at the control plane."""
    return f"/api/v1/nodes/{join(api, url=node.url, admin_token=node.admin_token)}/profiles"


def join(api: Api, name: str = "node-1", **changes: Any) -> str:
    body = registration(name, **changes).model_dump(mode="json")
    headers = {"Authorization": f"Bearer {ENROLMENT_TOKEN}"}
    return str(api.anonymous.post("/api/v1/agents/register", json=body, headers=headers).json()["node_id"])


def until_done(api: Api, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (shown := api.client.get(path).json())["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(shown)


class TestProfiles:
    def test_an_admin_records_a_node_and_fetches_the_flame_graph(self, api: Api, profiles: str) -> None:
        started = api.client.post(profiles, json=ORDER)
        assert started.status_code == 202, started.text
        path = f"{profiles}/{started.json()['id']}"
        assert until_done(api, path)["state"] == "done"
        file = api.client.get(f"{path}/file")
        assert file.headers["content-type"] == "application/json"
        assert file.headers["content-disposition"].endswith('.speedscope.json"')
        document = json.loads(file.content)
        assert document["profiles"] and document["shared"]["frames"]
        assert [item["id"] for item in api.client.get(profiles).json()["items"]] == [started.json()["id"]]
        kinds = [event["kind"] for event in api.client.get("/api/v1/events").json()["items"]]
        assert "node.profiled" in kinds
        assert api.client.delete(path).status_code == 204
        assert api.client.get(path).status_code == 404

    def test_the_nodes_refusals_are_passed_on(self, api: Api, profiles: str) -> None:
        started = api.client.post(profiles, json={"kind": "cpu", "seconds": 30}).json()
        second = api.client.post(profiles, json=ORDER)
        assert second.status_code == 409 and "under way" in second.json()["detail"]
        early = api.client.get(f"{profiles}/{started['id']}/file")
        assert early.status_code == 409 and "under way" in early.json()["detail"]
        assert api.client.post(profiles, json={"kind": "cpu", "seconds": 31}).status_code == 422
        api.client.delete(f"{profiles}/{started['id']}")

    @pytest.mark.parametrize("number", ["..%2Fsettings", "..", "settings", "A"])
    def test_a_number_is_no_path(self, api: Api, profiles: str, number: str) -> None:
        assert api.client.get(f"{profiles}/{number}/file").status_code in (404, 422)

    def test_only_admins(self, api: Api, profiles: str) -> None:
        made = api.client.post("/api/v1/tokens", json={"name": "op", "role": "operator"}).json()
        headers = {"Authorization": f"Bearer {made['token']}"}
        for answer in (
            api.anonymous.get(profiles, headers=headers),
            api.anonymous.post(profiles, json=ORDER, headers=headers),
            api.anonymous.get(f"{profiles}/abc/file", headers=headers),
        ):
            assert answer.status_code == 403
        api.client.delete(f"/api/v1/tokens/{made['id']}")

    def test_a_node_that_does_not_answer_is_told_so(self, api: Api) -> None:
        gone = join(api, "node-gone", url="http://127.0.0.1:1")
        answer: httpx2.Response = api.client.get(f"/api/v1/nodes/{gone}/profiles")
        assert answer.status_code == 503 and "does not answer" in answer.json()["detail"]
