"""A real node on the real model: settings change under load, and no client notices anything but speed.

Each streamed token carries, as the chunk's system_fingerprint, the arithmetic of the step that made it. So a stream can be held
against an undisturbed run: whole when it saw no change of arithmetic, up to the change when it saw one.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inference_node.contract.settings import EngineSettings, KnobValue
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import load
from tests.support.fake_controlplane import push_of
from tests.support.measured import share
from tests.support.models import demo_model
from tests.support.node_process import NodeProcess, node_process

pytestmark = pytest.mark.model

TOKENS = 16
PROMPTS = [
    "The capital of France is",
    "Once upon a time there was a small ship that",
    "def fibonacci(n):",
    "Water boils at a temperature of",
    "Dear Sir or Madam, I am writing to you because",
    "The three primary colours are red,",
    "In the year 1969, two astronauts",
    "A list of animals: cat, dog, horse, cow,",
]
# Every knob that is live, and every precision, arithmetic among other things and alone.
CHANGES: list[dict[str, KnobValue]] = [
    {"max_batch_size": 3},
    {"max_batched_tokens": 64},
    {"scheduling_policy": "prefix"},
    {"max_batch_size": 16},
    {"prefix_cache": False},
    {"target_itl_ms": 30.0},
    {"precision": "int8"},
    {"batch_wait_ms": 20.0},
    {"kv_precision": "int8"},
    {"max_batch_size": 5},
    {"target_itl_ms": 0.0},
    {"pruning_threshold": 0.2},
    {"prefix_cache": True, "max_batched_tokens": 256},
    {"pruning_threshold": 0.0},
    {"kv_precision": "model"},
    {"precision": "fp32"},
    {"scheduling_policy": "deadline", "max_batch_size": 8},
    {"precision": "bf16"},
    {"batch_wait_ms": 0.0},
    {"scheduling_policy": "fcfs"},
    {"max_batch_size": 8, "max_batched_tokens": 512, "max_queue": 256},
]
if isinstance(load(), NativeUnavailable):  # plain torch keeps keys and values as it computes them
    CHANGES = [change for change in CHANGES if "kv_precision" not in change]


# Past its end a model says special tokens too (`ignore_eos`): logprobs name them, the text leaves them out.
SPECIAL = re.compile(r"<\|\w+\|>")


@dataclass(slots=True)
class Told:
    """What one stream said: tokens with the arithmetic of each."""

    prompt: int
    tokens: list[str] = field(default_factory=list)
    numerics: list[str] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    completion_tokens: int = 0
    problem: str | None = None


async def ask(client: httpx2.AsyncClient, prompt: int) -> Told:
    told = Told(prompt)
    body: dict[str, Any] = {
        "prompt": PROMPTS[prompt],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            told.problem = (await response.aread()).decode()
            return told
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                told.problem = chunk["error"]["message"]
                return told
            for choice in chunk["choices"]:
                tokens = (choice["logprobs"] or {}).get("tokens", [])
                told.tokens += tokens
                told.numerics += [chunk["system_fingerprint"]] * len(tokens)
                told.text += choice["text"]
                told.finish_reason = choice["finish_reason"] or told.finish_reason
            if chunk.get("usage"):
                told.completion_tokens = chunk["usage"]["completion_tokens"]
    return told


class Pusher:
    """Pushes settings as a control plane does, one generation after the other.

    force: without a measurement first, which beside requests has the lowest priority.
    """

    def __init__(self, client: httpx2.AsyncClient, node: NodeProcess, generation: int, *, force: bool) -> None:
        self.client, self.admin, self.force = client, node.admin, force
        self.settings, self.generation, self.steps = EngineSettings(), generation, list[int]()

    async def push(self, change: dict[str, KnobValue]) -> None:
        """Until it is in force."""
        self.settings, self.generation = self.settings.replace(**change), self.generation + 1
        body = push_of(self.settings, self.generation, node_id="n", force=self.force).model_dump(mode="json")
        response = await self.client.put("/admin/v1/settings", json=body, headers=self.admin)
        assert response.status_code in (200, 202), response.text
        while True:
            shown = (await self.client.get("/admin/v1/settings", headers=self.admin)).json()
            assert shown["rejected"] is None, shown["rejected"]
            if shown["generation"] == self.generation:
                break
            await asyncio.sleep(0.02)
        assert EngineSettings.model_validate(shown["settings"]) == self.settings
        self.steps.append(shown["applied_step"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, measured: Path) -> Iterator[NodeProcess]:
    data_dir = share(measured, tmp_path_factory.mktemp("node"))
    with node_process(demo_model(), data_dir, "--kv-tokens", "8192", "--max-model-len", "512") as node:
        yield node


def clients(node: NodeProcess) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=node.url, timeout=120, trust_env=False)


async def all_prompts(client: httpx2.AsyncClient) -> list[Told]:
    return await asyncio.gather(*(ask(client, prompt) for prompt in range(len(PROMPTS))))


@pytest.mark.timeout(900)  # half a minute on an idle machine; one shared by other tests is many times slower
class TestChangesUnderLoad:
    @pytest.mark.parametrize(
        "force", [pytest.param(False, marks=pytest.mark.slow, id="measured"), pytest.param(True, id="forced")]
    )
    async def test_nothing_fails_nothing_is_lost_or_doubled_and_equal_arithmetic_gives_equal_tokens(
        self, node: NodeProcess, force: bool
    ) -> None:
        heard: list[Told] = []
        done = asyncio.Event()
        async with clients(node) as client:
            shown = (await client.get("/admin/v1/settings", headers=node.admin)).json()
            pusher = Pusher(client, node, shown["generation"], force=force)
            await pusher.push({})
            # Undisturbed and alone, in the arithmetic of the start.
            references = {"fp_bf16|model|0.0": [await ask(client, prompt) for prompt in range(len(PROMPTS))]}
            before = await client.get("/metrics")
            if force:  # what pruning leaves out is learned once, before the load
                await pusher.push({"precision": "int8", "pruning_threshold": 0.2})
                await pusher.push({"precision": "bf16", "pruning_threshold": 0.0})

            async def stream(prompt: int) -> None:
                while not done.is_set():
                    heard.append(await ask(client, prompt))

            streams = [asyncio.create_task(stream(prompt)) for prompt in range(len(PROMPTS))]
            for change in CHANGES:
                await pusher.push(change)
                enough = len(heard) + len(PROMPTS) // 2
                while len(heard) < enough and not any(stream.done() for stream in streams):
                    await asyncio.sleep(0.05)
            done.set()
            await asyncio.gather(*streams)

            for told in heard:
                assert told.problem is None
                assert told.finish_reason == "length"
                assert len(told.tokens) == told.completion_tokens == TOKENS
                spoken = SPECIAL.sub("", "".join(told.tokens))
                assert spoken == told.text or "\N{REPLACEMENT CHARACTER}" in spoken

            seen = {told.numerics[0] for told in heard}
            assert {"fp_bf16|model|0.0", "fp_int8|model|0.0"} <= {name for told in heard for name in told.numerics}
            for name in sorted(seen - references.keys()):
                precision, kv, pruning = name.removeprefix("fp_").split("|")
                await pusher.push({"precision": precision, "kv_precision": kv, "pruning_threshold": float(pruning)})
                references[name] = await all_prompts(client)
                assert {n for told in references[name] for n in told.numerics} == {name}
            compared_whole = 0
            for told in heard:
                first = told.numerics[0]
                same = next((i for i, name in enumerate(told.numerics) if name != first), TOKENS)
                compared_whole += same == TOKENS
                assert told.tokens[:same] == references[first][told.prompt].tokens[:same], (told, first, same)
            assert compared_whole > len(PROMPTS)

            assert pusher.steps == sorted(pusher.steps)
            assert "vllm:num_requests_running" in before.text
            status = (await client.get("/admin/v1/status", headers=node.admin)).json()
            assert (status["stats"]["running"], status["stats"]["waiting"]) == (0, 0)
            assert status["stats"]["blocks_used"] == 0 and status["stats"]["failed_steps"] == 0

    async def test_a_push_is_idempotent_and_an_older_one_is_refused(self, node: NodeProcess) -> None:
        async with clients(node) as client:
            shown = (await client.get("/admin/v1/settings", headers=node.admin)).json()
            settings, generation = EngineSettings.model_validate(shown["settings"]), shown["generation"]
            again = push_of(settings, generation, node_id="n").model_dump(mode="json")
            older = push_of(settings, generation - 1, node_id="n").model_dump(mode="json")
            answers = await asyncio.gather(
                *(client.put("/admin/v1/settings", json=again, headers=node.admin) for _ in range(5))
            )
            assert {(answer.status_code, answer.json()["outcome"]) for answer in answers} == {(200, "unchanged")}
            refused = await client.put("/admin/v1/settings", json=older, headers=node.admin)
            assert (refused.status_code, refused.json()["code"]) == (409, "stale_generation")
