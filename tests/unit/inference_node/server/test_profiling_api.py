"""Recordings over HTTP, on a node that really samples itself."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_controlplane import eventually
from tests.support.served_app import ServedApp, served_app

PROFILE = "/admin/v1/profile"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with served_app(tmp_path) as served:
        yield served
        served.node.recorder.close()


async def start(served: ServedApp, **body: Any) -> tuple[int, Any]:
    response = await served.client.post(PROFILE, json={"kind": "cpu", "seconds": 0.1} | body, headers=served.admin)
    return response.status_code, response.json()


class TestProfile:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("path", ["", "/abc", "/abc/file"])
    async def test_nobody_without_the_token(self, served: ServedApp, method: str, path: str) -> None:
        response = await served.client.request(method, PROFILE + path, json={"kind": "cpu"})
        assert response.status_code == (405 if method == "POST" and path else 401)
        assert served.node.recorder.recordings() == ()

    async def test_is_recorded_and_fetched(self, served: ServedApp) -> None:
        status, started = await start(served)
        assert (status, started["state"]) == (202, "running")
        await eventually(lambda: served.node.recorder.get(started["id"]).state.value == "done")
        shown = (await served.client.get(f"{PROFILE}/{started['id']}", headers=served.admin)).json()
        file = await served.client.get(f"{PROFILE}/{started['id']}/file", headers=served.admin)
        assert file.headers["content-type"] == "application/json"
        assert shown["file_name"] in file.headers["content-disposition"]
        assert json.loads(file.content)["$schema"].startswith("https://www.speedscope.app/")
        listed = (await served.client.get(PROFILE, headers=served.admin)).json()
        assert [item["id"] for item in listed["items"]] == [started["id"]]

    async def test_one_at_a_time_and_deleting_ends_it(self, served: ServedApp) -> None:
        _, started = await start(served, seconds=30)
        assert (await start(served))[0] == 409
        file = await served.client.get(f"{PROFILE}/{started['id']}/file", headers=served.admin)
        assert file.status_code == 409
        gone = await served.client.delete(f"{PROFILE}/{started['id']}", headers=served.admin)
        assert gone.status_code == 204

    @pytest.mark.parametrize("body", [{"seconds": 31}, {"seconds": 0}, {"kind": "gpu"}, {"seconds": "x"}, {"more": 1}])
    async def test_what_is_out_of_bounds_is_refused(self, served: ServedApp, body: dict[str, Any]) -> None:
        status, answer = await start(served, **body)
        assert status == 400 and answer["error"]["type"] == "invalid_request_error"

    async def test_what_is_not_there(self, served: ServedApp) -> None:
        response = await served.client.get(f"{PROFILE}/abc", headers=served.admin)
        assert response.status_code == 404

    async def test_works_while_the_node_loads(self, tmp_path: Path) -> None:
        async with served_app(tmp_path, ready=False) as loading:
            assert (await start(loading))[0] == 202
            loading.node.recorder.close()
