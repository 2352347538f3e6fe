"""The node's HTTP server on a real socket, over a fake engine: official client, disconnects, draining."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from inference_node.agent.store import StoreInUse
from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.metrics import NodeMetrics
from inference_node.server.app import Served, serve_in_background
from inference_node.server.lifecycle import PortTaken
from tests.support.fake_controlplane import wait_for
from tests.support.fake_engine import FakeEngine


def config_in(folder: Path, **changes: object) -> NodeConfig:
    return NodeConfig.model_validate(
        {"model": Path("/nowhere"), "served_model_name": "fake", "port": 0, "data_dir": folder, "drain_s": 5, **changes}
    )


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(max_model_len=4096)


@pytest.fixture
def served(tmp_path: Path, engine: FakeEngine) -> Iterator[Served]:
    engine.listener = metrics = NodeMetrics("fake", "0.0.0")
    with serve_in_background(engine, config_in(tmp_path), metrics=metrics) as served:
        yield served
        engine.hold.set()


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


class TestOfficialClient:
    def test_chat(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "hello"}], max_tokens=8, logprobs=True, top_logprobs=1
        )
        assert answer.choices[0].message.content == "<user>he"
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None and answer.usage.completion_tokens == 8
        assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.content is not None
        assert answer.choices[0].logprobs.content[0].token == "<"

    def test_chat_streamed(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "<user>he"
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 8

    def test_the_clients_own_stream_helper(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(
            model="fake", messages=[{"role": "user", "content": "hello"}], max_tokens=8
        ) as stream:
            assert "".join(event.delta for event in stream if event.type == "content.delta") == "<user>he"

    def test_completions(self, client: openai.OpenAI) -> None:
        answer = client.completions.create(model="fake", prompt=["ab", "cd"], n=2, max_tokens=3, logprobs=1)
        assert [choice.text for choice in answer.choices] == ["aba", "aba", "cdc", "cdc"]
        assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.tokens == ["a", "b", "a"]

    def test_completions_streamed(self, client: openai.OpenAI) -> None:
        chunks = list(client.completions.create(model="fake", prompt="abc", max_tokens=5, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == "abcab"

    def test_models(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["fake"]

    def test_errors_are_the_clients_own(self, client: openai.OpenAI, engine: FakeEngine) -> None:
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="other", prompt="x")
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="fake", prompt="x", temperature=9)
        assert caught.value.param == "temperature"
        engine.queue_full = True
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="fake", prompt="x")

    def test_a_failure_in_mid_stream_raises(self, client: openai.OpenAI, engine: FakeEngine) -> None:
        engine.fail_after = 2
        with pytest.raises(openai.APIError, match="a kernel refused"):
            list(client.completions.create(model="fake", prompt="abc", max_tokens=9, stream=True))


class TestDisconnect:
    @pytest.mark.parametrize("stream", [True, False])
    async def test_cancels_the_generation(self, served: Served, engine: FakeEngine, stream: bool) -> None:
        engine.hold.clear()
        body = {"prompt": "abc", "max_tokens": 1000, "n": 3, "stream": stream}
        async with httpx2.AsyncClient(base_url=served.url) as client:
            asked = asyncio.create_task(client.post("/v1/completions", json=body))
            await asyncio.to_thread(wait_for, lambda: engine.stats().running == 3)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        await asyncio.to_thread(wait_for, lambda: engine.stats().running == 0)
        assert len(engine.cancelled) == 3

    async def test_of_many_leaves_nothing_running(self, served: Served, engine: FakeEngine) -> None:
        async def leave_early(tokens: int) -> None:
            body = {"prompt": "abc", "max_tokens": 3000, "stream": True}
            async with (
                httpx2.AsyncClient(base_url=served.url) as client,
                client.stream("POST", "/v1/completions", json=body) as response,
            ):
                seen = 0
                async for line in response.aiter_lines():
                    seen += line.startswith("data: ")
                    if seen > tokens:
                        return

        await asyncio.gather(*(leave_early(tokens) for tokens in range(20)))
        await asyncio.to_thread(wait_for, lambda: engine.stats().running == 0)


class TestDrain:
    def test_running_streams_end_whole_and_new_requests_are_turned_away(
        self, served: Served, engine: FakeEngine
    ) -> None:
        engine.hold.clear()
        texts: list[str] = []

        def ask() -> None:
            with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
                chunks = client.completions.create(model="fake", prompt="abc", max_tokens=50, stream=True)
                texts.append("".join(chunk.choices[0].text for chunk in chunks))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: engine.stats().running == 1)
        closing = threading.Thread(target=served.close)
        closing.start()
        wait_for(lambda: httpx2.get(f"{served.url}/readyz").status_code == 503)
        assert httpx2.get(f"{served.url}/livez").status_code == 200
        refused = httpx2.post(f"{served.url}/v1/completions", json={"prompt": "x"})
        assert refused.status_code == 503 and "draining" in refused.json()["error"]["message"]
        engine.hold.set()
        closing.join(20)
        asking.join(20)
        assert texts == [("abc" * 17)[:50]]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{served.url}/livez")

    def test_what_does_not_end_in_time_is_told_not_truncated(self, tmp_path: Path, engine: FakeEngine) -> None:
        engine.hold.clear()
        served = serve_in_background(engine, config_in(tmp_path, drain_s=0.05))
        problems: list[str] = []

        def ask() -> None:
            with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
                try:
                    list(client.completions.create(model="fake", prompt="abc", max_tokens=50, stream=True))
                except openai.APIError as error:
                    problems.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: engine.stats().running == 1)
        served.close()
        asking.join(20)
        assert len(problems) == 1 and "shutting down" in problems[0]


class TestStart:
    def test_a_taken_port_is_one_clear_error(self, tmp_path: Path, engine: FakeEngine) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(PortTaken, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
                serve_in_background(engine, config_in(tmp_path, port=port))

    def test_two_nodes_of_one_name_do_not_share_a_folder(
        self, served: Served, engine: FakeEngine, tmp_path: Path
    ) -> None:
        with pytest.raises(StoreInUse, match="NODE_NAME"):
            serve_in_background(engine, config_in(tmp_path))
        with serve_in_background(FakeEngine(), config_in(tmp_path, name="node-2")) as other:
            assert other.url != served.url

    def test_an_unreachable_own_address_is_refused_at_once(self, tmp_path: Path, engine: FakeEngine) -> None:
        wrong = config_in(tmp_path, host="0.0.0.0", controlplane_url="http://127.0.0.1:1")
        with pytest.raises(ConfigInvalid, match="NODE_URL"):
            serve_in_background(engine, wrong)

    def test_settings_survive_a_restart(self, tmp_path: Path) -> None:
        with serve_in_background(FakeEngine(), config_in(tmp_path)) as first:
            bearer = {"authorization": f"Bearer {first.admin_token}"}
            httpx2.patch(f"{first.url}/admin/v1/settings", json={"max_queue": 7}, headers=bearer).raise_for_status()
        with serve_in_background(FakeEngine(), config_in(tmp_path)) as second:
            shown = httpx2.get(f"{second.url}/admin/v1/settings", headers=bearer).raise_for_status().json()
        assert second.admin_token == first.admin_token
        # Nobody pushed anything, so the configuration speaks again; a pushed generation is what survives.
        assert (shown["generation"], shown["settings"]["max_queue"]) == (0, 256)
