"""OpenAI's endpoints over a fake engine, in process."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from inference_node.contract.messages import NodeState
from tests.support.fake_controlplane import eventually
from tests.support.served_app import ServedApp, served_app


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with served_app(tmp_path) as served:
        yield served


def chunks(response: httpx2.Response) -> list[dict[str, Any]]:
    """The documents of an event stream, which must end with [DONE]."""
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def problem(response: httpx2.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


class TestModels:
    async def test_lists_the_one_model(self, served: ServedApp) -> None:
        (model,) = (await served.client.get("/v1/models")).json()["data"]
        assert (model["id"], model["object"]) == ("fake", "model")

    async def test_shows_it_by_name_and_no_other(self, served: ServedApp) -> None:
        assert (await served.client.get("/v1/models/fake")).json()["id"] == "fake"
        missing = await served.client.get("/v1/models/org/other")
        assert missing.status_code == 404 and problem(missing)["code"] == "model_not_found"


class TestChat:
    async def test_answers_whole(self, served: ServedApp) -> None:
        body = (await served.chat("hello", max_tokens=10)).json()
        (choice,) = body["choices"]
        assert choice["message"]["content"] == "<user>hell"
        assert choice["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 10
        assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 10
        assert body["system_fingerprint"] == "fp_bf16|model|0.0"

    async def test_streams_the_same_answer(self, served: ServedApp) -> None:
        documents = chunks(await served.chat("hello", max_tokens=10, stream=True))
        assert documents[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        deltas = [document["choices"][0] for document in documents]
        assert "".join(choice["delta"].get("content", "") for choice in deltas) == "<user>hell"
        assert [choice["finish_reason"] for choice in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1]["finish_reason"] == "length"
        assert len({document["id"] for document in documents}) == 1
        assert all("usage" not in document for document in documents)

    async def test_streams_usage_last_when_asked(self, served: ServedApp) -> None:
        documents = chunks(await served.chat(max_tokens=3, stream=True, stream_options={"include_usage": True}))
        assert documents[-1]["choices"] == []
        assert documents[-1]["usage"]["completion_tokens"] == 3
        assert all(document["usage"] is None for document in documents[:-1])

    async def test_running_usage_numbers_every_token(self, served: ServedApp) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        documents = chunks(await served.complete("abcd", max_tokens=4, stream=True, stream_options=options))
        assert [d["usage"]["completion_tokens"] for d in documents] == [1, 2, 3, 4, 4]
        assert all(d["usage"]["prompt_tokens"] == 4 for d in documents)

    async def test_running_usage_needs_the_last_one(self, served: ServedApp) -> None:
        options = {"continuous_usage_stats": True}
        documents = chunks(await served.complete("ab", max_tokens=2, stream=True, stream_options=options))
        assert all("usage" not in document for document in documents)

    async def test_n_answers_are_told_apart(self, served: ServedApp) -> None:
        body = (await served.chat(max_tokens=2, n=3, seed=7)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert [request.sampling.seed for request in served.engine.requests] == [7, 8, 9]
        documents = chunks(await served.chat(max_tokens=2, n=3, stream=True))
        for index in range(3):
            mine = [c for document in documents for c in document["choices"] if c["index"] == index]
            assert "".join(c["delta"].get("content", "") for c in mine) == "<u"

    async def test_without_max_tokens_the_answer_may_fill_the_context(self, served: ServedApp) -> None:
        usage = (await served.chat("hello")).json()["usage"]
        assert usage["total_tokens"] == served.engine.max_model_len

    async def test_max_completion_tokens_wins_over_its_old_name(self, served: ServedApp) -> None:
        body = (await served.chat(max_tokens=9, max_completion_tokens=2)).json()
        assert body["usage"]["completion_tokens"] == 2

    async def test_logprobs_carry_the_alternatives(self, served: ServedApp) -> None:
        body = (await served.chat(max_tokens=2, logprobs=True, top_logprobs=2)).json()
        content = body["choices"][0]["logprobs"]["content"]
        assert [entry["token"] for entry in content] == ["<", "u"]
        assert [len(entry["top_logprobs"]) for entry in content] == [2, 2]
        assert content[0]["bytes"] == [60]

    async def test_text_parts_and_developer_messages_are_understood(self, served: ServedApp) -> None:
        messages = [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [], "refusal": None},
        ]
        response = await served.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 36})
        assert response.json()["choices"][0]["message"]["content"].startswith("<system>be brief<user>ab<assistant>")

    async def test_openais_defaults_are_ours(self, served: ServedApp) -> None:
        await served.chat(max_tokens=1)
        sampling = served.engine.requests[0].sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)

    async def test_what_asks_for_nothing_is_accepted(self, served: ServedApp) -> None:
        response = await served.chat(
            max_tokens=1,
            tools=[],
            tool_choice="none",
            logit_bias={},
            response_format={"type": "text"},
            user="me",
            store=False,
        )
        assert response.status_code == 200


class TestCompletions:
    async def test_many_prompts_and_answers_come_in_order(self, served: ServedApp) -> None:
        body = (await served.complete(["ab", "cd"], n=2, max_tokens=3)).json()
        assert [choice["text"] for choice in body["choices"]] == ["aba", "aba", "cdc", "cdc"]
        assert body["usage"]["prompt_tokens"] == 4  # each prompt once

    async def test_token_ids_are_a_prompt(self, served: ServedApp) -> None:
        assert (await served.complete([97, 98], max_tokens=2)).json()["choices"][0]["text"] == "ab"

    async def test_sixteen_tokens_by_default(self, served: ServedApp) -> None:
        assert (await served.complete("abc")).json()["usage"]["completion_tokens"] == 16

    async def test_the_default_shrinks_to_what_fits(self, served: ServedApp) -> None:
        assert (await served.complete("a" * 120)).json()["usage"]["completion_tokens"] == 8

    async def test_streamed_logprobs_count_their_offsets(self, served: ServedApp) -> None:
        documents = chunks(await served.complete("abc", max_tokens=3, stream=True, logprobs=1))
        found = [document["choices"][0]["logprobs"] for document in documents]
        assert [logprobs["text_offset"] for logprobs in found] == [[0], [1], [2]]
        assert found[0]["top_logprobs"] == [{"a": -0.5}]

    async def test_vllms_extras_reach_the_engine(self, served: ServedApp) -> None:
        await served.complete(
            max_tokens=1,
            top_k=-1,
            min_p=0.1,
            ignore_eos=True,
            stop_token_ids=[5],
            priority=3,
            deadline_ms=2500,
            stop="x",
        )
        (request,) = served.engine.requests
        sampling = request.sampling
        assert (sampling.top_k, sampling.min_p, sampling.ignore_eos) == (0, 0.1, True)
        assert (sampling.stop_token_ids, sampling.stop) == ((5,), ("x",))
        assert (request.priority, request.deadline_s) == (3, 2.5)

    async def test_a_deadline_may_come_as_a_header_and_the_body_wins(self, served: ServedApp) -> None:
        for header, body in (("250", {}), ("250", {"deadline_ms": 9}), ("soon", {}), ("inf", {}), ("-1", {})):
            document = {"prompt": "a", "max_tokens": 1, **body}
            answer = await served.client.post("/v1/completions", json=document, headers={"x-deadline-ms": header})
            assert answer.status_code == (200 if header == "250" else 400)
        assert [request.deadline_s for request in served.engine.requests] == [0.25, 0.009]

    async def test_salts_are_told_apart_whatever_is_in_them(self, served: ServedApp) -> None:
        for salt in ("a", "a", "b\0", "x" * 9000):
            assert (await served.complete("abc", max_tokens=1, cache_salt=salt)).status_code == 200
        assert (await served.complete("abc", max_tokens=1)).status_code == 200
        first, again, other, *_, none = [request.cache_salt for request in served.engine.requests]
        assert first == again != other and none == "" and len(first) == 32


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "prompt"),
            ({"prompt": 7}, "prompt"),
            ({"prompt": []}, "prompt"),
            ({"prompt": ""}, "prompt"),
            ({"prompt": [[1], ["a"]]}, "prompt"),
            ({"prompt": [True]}, "prompt"),
            ({"prompt": [257]}, "prompt"),
            ({"prompt": [-1]}, "prompt"),
            ({"prompt": "\ud800"}, "prompt"),
            ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
            ({"prompt": "a", "max_tokens": "7"}, "max_tokens"),
            ({"prompt": "a", "max_tokens": 1.5}, "max_tokens"),
            ({"prompt": "a", "temperature": -1}, "temperature"),
            ({"prompt": "a", "temperature": "hot"}, "temperature"),
            ({"prompt": "a", "top_p": 0}, "top_p"),
            ({"prompt": "a", "presence_penalty": 3}, "presence_penalty"),
            ({"prompt": "a", "n": 0}, "n"),
            ({"prompt": "a", "n": 129}, "n"),
            ({"prompt": ["a"] * 100, "n": 2}, "n"),
            ({"prompt": "a", "stop": [""]}, "stop"),
            ({"prompt": "a", "stop": 5}, "stop"),
            ({"prompt": "a", "logprobs": 21}, "logprobs"),
            ({"prompt": "a", "echo": True}, "echo"),
            ({"prompt": "a", "best_of": 2}, "best_of"),
            ({"prompt": "a", "suffix": "z"}, "suffix"),
            ({"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias"),
            ({"prompt": "a", "warp_factor": 9}, "warp_factor"),
            ({"prompt": "a", "stream_options": {}}, "stream_options"),
            ({"prompt": "a", "stream": "yes"}, "stream"),
            ({"prompt": "a", "deadline_ms": 0}, "deadline_ms"),
            ({"prompt": "a", "cache_salt": ""}, "cache_salt"),
            ({"prompt": "a", "\ud800": 1}, None),
        ],
    )
    async def test_is_one_error_that_names_the_parameter(
        self, served: ServedApp, body: dict[str, Any], param: str | None
    ) -> None:
        content = json.dumps(body)
        response = await served.client.post(
            "/v1/completions", content=content, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400
        error = problem(response)
        assert (error["param"], error["type"]) == (param, "invalid_request_error")
        assert param in (None, "prompt") or param in error["message"]
        assert served.engine.requests == []

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}, "tools"),
            (
                {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}},
                "response_format",
            ),
            ({"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}, "top_logprobs"),
            ({"messages": [{"role": "user", "content": "x"}], "top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ],
    )
    async def test_of_a_chat_too(self, served: ServedApp, body: dict[str, Any], param: str) -> None:
        response = await served.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 400 and problem(response)["param"] == param

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"prompt": "\\ud8"}'])
    async def test_what_is_no_json_object(self, served: ServedApp, content: bytes) -> None:
        response = await served.client.post(
            "/v1/completions", content=content, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400
        problem(response)

    @pytest.mark.parametrize(("path", "param"), [("/v1/completions", "prompt"), ("/v1/chat/completions", "messages")])
    async def test_a_prompt_that_is_too_long_tells_the_numbers(self, served: ServedApp, path: str, param: str) -> None:
        text = "a" * 200
        body = {"prompt": text} if param == "prompt" else {"messages": [{"role": "user", "content": text}]}
        error = problem(await served.client.post(path, json=body))
        assert (error["code"], error["param"]) == ("context_length_exceeded", param)
        assert "128" in error["message"]

    async def test_asking_for_more_than_fits_tells_the_numbers(self, served: ServedApp) -> None:
        error = problem(await served.complete("abcde", max_tokens=200))
        assert (error["code"], error["param"]) == ("context_length_exceeded", "max_tokens")
        assert "205" in error["message"] and "128" in error["message"]

    async def test_an_unknown_model(self, served: ServedApp) -> None:
        response = await served.complete(model="gpt-4")
        assert response.status_code == 404 and problem(response)["code"] == "model_not_found"

    async def test_a_path_or_method_that_is_not_there(self, served: ServedApp) -> None:
        assert problem(await served.client.get("/v2/nothing"))["code"] == "not_found"
        response = await served.client.delete("/v1/models")
        assert response.status_code == 405 and problem(response)["code"] == "method_not_allowed"

    async def test_a_body_above_four_megabytes(self, served: ServedApp) -> None:
        async def unannounced() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b" " * 1024 * 1024

        for content in (b" " * (4 * 1024 * 1024 + 1), unannounced()):
            response = await served.client.post(
                "/v1/completions", content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code == 413 and problem(response)["code"] == "request_too_large"


class TestFailures:
    async def test_a_full_queue_is_429_with_retry_after(self, served: ServedApp) -> None:
        served.engine.queue_full = True
        for stream in (False, True):
            response = await served.chat(stream=stream)
            assert response.status_code == 429
            assert response.headers["retry-after"] == "3"
            assert problem(response)["code"] == "queue_full"
        assert await served.metric("inference_requests_rejected_total") == 2

    async def test_an_engine_error_is_a_500_that_is_counted_once(self, served: ServedApp) -> None:
        served.engine.fail_after = 2
        response = await served.chat(max_tokens=9)
        assert response.status_code == 500
        assert "a kernel refused" in problem(response)["message"]
        assert await served.metric('inference_request_errors_total{cause="engine"}') == 1
        assert await served.metric('inference_request_errors_total{cause="internal"}') == 0

    async def test_an_engine_error_in_a_stream_is_an_event_never_a_silent_end(self, served: ServedApp) -> None:
        served.engine.fail_after = 2
        documents = chunks(await served.chat(max_tokens=9, stream=True))
        assert documents[-1]["error"]["type"] == "server_error"
        assert "a kernel refused" in documents[-1]["error"]["message"]

    async def test_one_lost_answer_ends_its_siblings(self, served: ServedApp) -> None:
        served.engine.fail_after = 5
        await served.complete(["ab", "cd"], n=2, max_tokens=50)
        await eventually(lambda: served.engine.stats().running == 0)

    async def test_a_bug_is_a_500_without_a_traceback(self, served: ServedApp, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise KeyError("secret detail")

        monkeypatch.setattr(served.engine, "submit", broken)
        with structlog.testing.capture_logs() as logs:
            response = await served.chat()
        assert [entry["event"] for entry in logs] == ["request_crashed"]
        assert response.status_code == 500
        assert "secret" not in response.text and "Traceback" not in response.text
        assert await served.metric('inference_request_errors_total{cause="internal"}') == 1

    async def test_a_draining_node_says_so(self, served: ServedApp) -> None:
        served.node.state = NodeState.DRAINING
        response = await served.chat()
        assert response.status_code == 503 and "draining" in problem(response)["message"]
        assert response.headers["retry-after"]
        assert await served.metric('inference_request_errors_total{cause="draining"}') == 1
        assert await served.metric("inference_requests_offered_total") == 1

    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_answer_cut_by_a_shutdown_is_told(self, served: ServedApp, stream: bool) -> None:
        served.engine.hold.clear()
        asked = asyncio.create_task(served.chat(stream=stream))
        await eventually(lambda: served.engine.stats().running)
        await served.engine.shutdown(0.01)
        response = await asked
        error = chunks(response)[-1]["error"] if stream else problem(response)
        assert "shutting down" in error["message"]


class TestTokens:
    async def test_tokenize_and_back(self, served: ServedApp) -> None:
        body = (await served.client.post("/tokenize", json={"prompt": "héllo"})).json()
        assert (body["count"], body["max_model_len"]) == (6, 128)
        back = await served.client.post("/detokenize", json={"tokens": body["tokens"]})
        assert back.json() == {"prompt": "héllo"}

    async def test_tokenize_sees_a_chat_as_generation_does(self, served: ServedApp) -> None:
        messages = [{"role": "user", "content": "hi"}]
        body = (await served.client.post("/tokenize", json={"messages": messages})).json()
        answer = (await served.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1})).json()
        assert body["count"] == answer["usage"]["prompt_tokens"]

    @pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}])
    async def test_tokenize_wants_one_of_both(self, served: ServedApp, body: dict[str, Any]) -> None:
        assert (await served.client.post("/tokenize", json=body)).status_code == 400


class TestRequestId:
    async def test_is_echoed_or_made(self, served: ServedApp) -> None:
        given = await served.client.get("/livez", headers={"x-request-id": "abc-123"})
        assert given.headers["x-request-id"] == "abc-123"
        made = await served.client.get("/livez", headers={"x-request-id": "no spaces please"})
        assert len(made.headers["x-request-id"]) == 32
