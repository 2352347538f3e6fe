"""`Idempotency-Key` over real HTTP, on SQLite and PostgreSQL: one change per key, whoever sends it how often."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, update

from controlplane.db import make_engine, session_scope
from controlplane.fleets.models import SettingsRevision
from controlplane.idempotency.models import IdempotencyRecord
from controlplane.retention import prune
from controlplane.rollouts.models import Rollout
from tests.support.api import Api, api_server
from tests.support.ready_node import join_ready_node

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_server(database_url) as api:
        yield api


@pytest.fixture
def pool_id(api: Api) -> str:
    return join_ready_node(api)


def create(api: Api, pool_id: str, batch: int = 32, headers: dict[str, str] = KEY) -> httpx2.Response:
    body = {"pool_id": pool_id, "settings": {"max_batch_size": batch}, "reason": "a test"}
    return api.client.post("/api/v1/rollouts", json=body, headers=headers)


def count(api: Api, table: Any) -> int:
    engine = make_engine(api.settings.database_url)
    with session_scope(engine, read_only=True) as session:
        found = session.scalar(select(func.count()).select_from(table))
    engine.dispose()
    return int(found or 0)


def test_the_same_request_again_gets_the_first_answer_and_changes_nothing(api: Api, pool_id: str) -> None:
    first, again = create(api, pool_id), create(api, pool_id)
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert count(api, Rollout) == 1


def test_of_many_at_once_one_makes_the_change(api: Api, pool_id: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: create(api, pool_id), range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert count(api, Rollout) == 1


def test_another_request_under_the_key_is_refused(api: Api, pool_id: str) -> None:
    assert create(api, pool_id).status_code == 201
    refused = create(api, pool_id, batch=64)
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:trimtab:problem:idempotency-key-reused"
    elsewhere = api.client.post(f"/api/v1/pools/{pool_id}/freeze", json={"reason": "a test"}, headers=KEY)
    assert elsewhere.json()["type"] == "urn:trimtab:problem:idempotency-key-reused"
    assert count(api, Rollout) == 1


def test_a_refused_request_leaves_no_key_behind(api: Api, pool_id: str) -> None:
    assert create(api, "no-such-pool").status_code == 404
    assert count(api, IdempotencyRecord) == 0
    assert create(api, pool_id).status_code == 201


def test_each_caller_has_keys_of_its_own(api: Api, pool_id: str) -> None:
    token = api.client.post("/api/v1/tokens", json={"name": "other", "role": "operator"}, headers=KEY).json()["token"]
    path, body = f"/api/v1/pools/{pool_id}/freeze", {"reason": "a test"}
    assert api.client.post(path, json=body, headers=KEY).status_code == 201
    other = {"Authorization": f"Bearer {token}"}
    taken = api.anonymous.post(path, json=body, headers=KEY | other)
    assert taken.status_code == 409  # frozen already: judged for itself, not answered with the other's answer
    assert "idempotency-replayed" not in taken.headers


def test_who_is_not_signed_in_gets_no_kept_answer(api: Api, pool_id: str) -> None:
    assert create(api, pool_id).status_code == 201
    body = {"pool_id": pool_id, "settings": {"max_batch_size": 32}, "reason": "a test"}
    assert api.anonymous.post("/api/v1/rollouts", json=body, headers=KEY).status_code == 401


def test_a_change_based_on_a_version_can_be_sent_again(api: Api, pool_id: str) -> None:
    path = f"/api/v1/pools/{pool_id}/policy"
    read = api.client.get(path)
    headers = KEY | {"If-Match": read.headers["etag"]}
    first = api.client.put(path, json=read.json()["document"], headers=headers)
    again = api.client.put(path, json=read.json()["document"], headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)  # without the key the second is 412
    assert again.headers["etag"] == first.headers["etag"] != read.headers["etag"]


def test_an_empty_answer_is_kept_too(api: Api, pool_id: str) -> None:
    path = f"/api/v1/pools/{pool_id}/freeze"
    assert api.client.post(path, json={"reason": "a test"}).status_code == 201
    assert api.client.delete(path, headers=KEY).status_code == 204
    assert api.client.post(path, json={"reason": "anew"}).status_code == 201
    late = api.client.delete(path, headers=KEY)
    assert (late.status_code, late.content) == (204, b"")
    assert api.client.get(f"/api/v1/pools/{pool_id}").json()["frozen"] is not None


def test_a_key_is_forgotten_after_its_time(api: Api, pool_id: str) -> None:
    assert create(api, pool_id).status_code == 201
    engine = make_engine(api.settings.database_url)
    with session_scope(engine) as session:
        past = session.scalars(select(IdempotencyRecord)).one().created_at - timedelta(seconds=1)
        session.execute(update(IdempotencyRecord).values(expires_at=past))
    anew = create(api, pool_id)
    assert "idempotency-replayed" not in anew.headers
    with session_scope(engine) as session:
        later = past + timedelta(days=3)
        prune(session, later)
        assert session.scalars(select(IdempotencyRecord)).all() == []
    engine.dispose()


@pytest.mark.parametrize("key", ["", "with a space", "x" * 256])
def test_what_is_no_key_is_refused_by_name(api: Api, pool_id: str, key: str) -> None:
    refused = create(api, pool_id, headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"].lower() == "idempotency-key"
    assert count(api, SettingsRevision) == 1
