"""A real node under clients that mean no good: no server error, no memory kept, and everybody else is served.

Each programme runs small here and whole under `slow`: 1,000 malformed requests, 200 readers that do not read, 500 that leave in
the middle. The whole one also prints what the others' latency was, beside what it is in peace.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hostile import Answer, NeverReads, leave_after, malformed_request, send, streaming_request
from tests.support.models import save_tiny_model
from tests.support.node_process import NodeProcess, node_process
from tests.support.witness import Witness

CLIENT_TIMEOUT_S = 2.0
SETTINGS = '{"max_batch_size": 64, "max_queue": 1000, "precision": "fp32"}'
# (malformed, not reading, leaving)
SMALL, WHOLE = (80, 10, 30), (1000, 200, 500)
sizes = pytest.mark.parametrize("size", [SMALL, pytest.param(WHOLE, marks=pytest.mark.slow)], ids=["small", "whole"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "model").mkdir()
    options = ("--settings", SETTINGS, "--client-timeout-s", str(CLIENT_TIMEOUT_S), "--max-model-len", "512")
    with node_process(save_tiny_model(folder / "model"), folder / "data", *options) as node:
        yield node


@pytest.fixture
def port(node: NodeProcess) -> Iterator[int]:
    """The node's port; afterwards it must be as if nobody had been there."""
    yield int(node.url.rpartition(":")[2])
    until = time.monotonic() + 60.0
    while (left := held(node)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == {}
    found = metrics(node)
    assert {name: value for name, value in found.items() if "request_errors_total" in name and value} == {}
    assert node.process.poll() is None
    assert [entry for entry in node.log if entry.get("level") == "error"] == []
    assert node.stderr == []


def metrics(node: NodeProcess) -> dict[str, float]:
    text = httpx2.get(f"{node.url}/metrics", trust_env=False).text
    return {
        sample.name
        + "".join(f"|{value}" for name, value in sample.labels.items() if name != "model_name"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def held(node: NodeProcess) -> dict[str, float]:
    """What requests still hold: empty when they hold nothing."""
    stats = httpx2.get(f"{node.url}/admin/v1/status", headers=node.admin, trust_env=False).json()["stats"]
    return {name: stats[name] for name in ("running", "waiting", "blocks_used", "failed_steps") if stats[name]}


class Crowd:
    """`async with Crowd(port)`: what is tried in there happens while a witness is served, and the witness must be served whole.

    What it sees is printed beside what it saw with `honest` clients, each of which reads one answer of `tokens` after the other.
    """

    def __init__(self, port: int, honest: int = 0, tokens: int = 1) -> None:
        self._port, self._honest, self._tokens = port, honest, tokens
        self._peace_is_over = False

    async def __aenter__(self) -> "Crowd":
        others = [asyncio.create_task(self._read_on()) for _ in range(self._honest)]
        self._peace = await asyncio.to_thread(Witness(self._port, answers=10).tell)
        self._peace_is_over = True
        await asyncio.gather(*others)
        self._witness = Witness(self._port)
        await asyncio.sleep(0.3)  # until it asks
        return self

    async def _read_on(self) -> None:
        while not self._peace_is_over:
            assert (await send(self._port, streaming_request(self._tokens))).status == 200

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._witness.close()
            return
        seen = await asyncio.to_thread(self._witness.tell)
        told = f"{seen.p95_ms:.1f} ms, {self._peace.p95_ms:.1f} ms with {self._honest} honest clients instead"
        print(f"p95 between a witness's tokens: {told}")  # noqa: T201


@sizes
class TestHostileClients:
    async def test_malformed_requests_are_the_clients_errors(self, port: int, size: tuple[int, int, int]) -> None:
        source = random.Random(20261123)
        requests = [malformed_request(source) for _ in range(size[0])]
        gate = asyncio.Semaphore(8)

        async def try_(request: bytes) -> tuple[bytes, Answer]:
            async with gate:
                return request, await send(port, request)

        async with Crowd(port, honest=8):
            answers = await asyncio.gather(*map(try_, requests))
        refused = 0
        for request, answer in answers:
            # None: it was no HTTP at all, and the connection ended.
            assert answer.status is None or answer.status < 500, (request[:500], answer)
            if answer.status is not None and answer.status >= 400:
                refused += 1
                if b"HTTP/1.1\r\nhost" in request and answer.body:
                    assert json.loads(answer.body)["error"]["message"], request[:500]
        assert refused > len(requests) // 2

    async def test_readers_that_do_not_read_stop_nobody(self, port: int, size: tuple[int, int, int]) -> None:
        readers = [NeverReads(port, max_tokens=400) for _ in range(size[1])]
        try:
            async with Crowd(port, honest=min(64, size[1]), tokens=400):
                for reader in readers:
                    await reader.start()
        finally:
            for reader in readers:
                reader.close()

    async def test_who_leaves_in_the_middle_leaves_nothing_behind(self, port: int, size: tuple[int, int, int]) -> None:
        gate = asyncio.Semaphore(16)

        async def try_(number: int) -> int:
            async with gate:
                return await leave_after(port, number % 5, 400, hard=number % 2 == 0)

        async with Crowd(port, honest=16, tokens=5):
            statuses = await asyncio.gather(*map(try_, range(size[2])))
        assert set(statuses) == {200}

    async def test_prompts_beyond_the_limit_are_told_so(self, port: int, size: tuple[int, int, int]) -> None:
        bodies = [
            {"prompt": "word " * 200_000},
            {"prompt": "word " * 120},
            {"prompt": [1] * 500_000},
            {"prompt": [1] * 512},
            {"prompt": [[1] * 600, [1]]},
            {"prompt": "x" * 510, "max_tokens": 5},
        ]
        async with Crowd(port), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for body in bodies * (1 + size[0] // 200):
                answer = await client.post("/v1/completions", json=body)
                assert answer.status_code == 400
                assert answer.json()["error"]["code"] == "context_length_exceeded"

    async def test_who_takes_for_ever_to_ask_is_cut(self, port: int, size: tuple[int, int, int]) -> None:
        beginnings = (
            b"",
            b"POST /v1/completions HT",
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n",
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        )

        async def linger(beginning: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(beginning)
            answer = await reader.read(-1)  # ends when the node closes
            writer.close()
            return answer

        async with Crowd(port):
            answers = await asyncio.gather(*(linger(b) for b in beginnings * (size[1] // 5)))
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
