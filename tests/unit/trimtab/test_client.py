"""Whatever the API or the network does, the command gets a document or one clear sentence."""

from typing import Any

import httpx2
import pytest

from trimtab.client import ApiClient, ApiError
from trimtab.connection import Connection
from trimtab.errors import CommandError

HERE = Connection("http://127.0.0.1:8700", "tt_x")


def client(answer: Any) -> ApiClient:
    return ApiClient(HERE, transport=httpx2.MockTransport(answer))


def problem(status: int, **document: Any) -> httpx2.Response:
    return httpx2.Response(status, json=document, headers={"content-type": "application/problem+json"})


class TestGet:
    def test_sends_the_token_and_leaves_out_what_is_none(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            assert request.headers["authorization"] == "Bearer tt_x"
            return httpx2.Response(200, json={"query": str(request.url.query, "ascii")})

        with client(answer) as api:
            assert api.get("/nodes", pool_id=None, limit=3) == {"query": "limit=3"}

    def test_follows_the_cursor_up_to_the_limit(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            start = int(request.url.params.get("cursor") or 0)
            rows = [{"n": n} for n in range(start, start + 2)]
            return httpx2.Response(200, json={"items": rows, "next_cursor": str(start + 2)})

        with client(answer) as api:
            assert [row["n"] for row in api.items("/decisions", limit=5)] == [0, 1, 2, 3, 4]


class TestErrors:
    def test_a_problem_document_is_said_with_its_fields(self) -> None:
        errors = [{"field": "settings.max_batch_size", "message": "too large"}]
        with (
            client(lambda _: problem(422, detail="wrong body", errors=errors)) as api,
            pytest.raises(ApiError) as caught,
        ):
            api.post("/rollouts", {})
        assert str(caught.value) == "wrong body (settings.max_batch_size: too large)"
        assert caught.value.exit_code == 2

    def test_a_conflict_is_a_failure_not_a_misuse(self) -> None:
        with client(lambda _: problem(409, detail="a rollout is active")) as api, pytest.raises(ApiError) as caught:
            api.post("/rollouts", {})
        assert caught.value.exit_code == 1

    def test_a_refused_token_says_where_it_comes_from(self) -> None:
        with client(lambda _: problem(401)) as api, pytest.raises(ApiError, match="TRIMTAB_TOKEN"):
            api.get("/nodes")

    def test_something_else_at_the_address(self) -> None:
        with (
            client(lambda _: httpx2.Response(200, text="<html>")) as api,
            pytest.raises(CommandError, match="TRIMTAB_URL"),
        ):
            api.get("/nodes")

    def test_an_error_that_is_no_problem_document(self) -> None:
        with (
            client(lambda _: httpx2.Response(502, text="bad gateway")) as api,
            pytest.raises(ApiError, match="status 502"),
        ):
            api.get("/nodes")

    def test_nobody_there(self) -> None:
        def refuse(request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ConnectError("refused", request=request)

        with client(refuse) as api, pytest.raises(CommandError, match=r"cannot reach Trimtab.*trimtab up"):
            api.get("/nodes")
