"""The node's HTTP app over a fake engine, called in process: no socket, no model, milliseconds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import NodeStore
from inference_node.config import NodeConfig
from inference_node.contract.messages import NodeState
from inference_node.metrics import NodeMetrics
from inference_node.server.app import create_app
from inference_node.server.node import Node
from tests.support.fake_engine import FakeEngine

ADMIN_TOKEN = "tn_0123456789abcdef"


@dataclass(slots=True)
class ServedApp:
    """The parts, and a client that speaks to them."""

    node: Node
    engine: FakeEngine
    client: httpx2.AsyncClient

    @property
    def admin(self) -> dict[str, str]:
        return {"authorization": f"Bearer {ADMIN_TOKEN}"}

    async def metric(self, sample: str) -> float:
        """The value of a sample, named as exposed with its labels beyond model_name: name{cause="engine"}."""
        name, _, labels = sample.partition("{")
        for line in (await self.client.get("/metrics")).text.splitlines():
            if line.partition("{")[0] == name and all(label in line for label in labels.rstrip("}").split(",")):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no sample {sample}")

    async def chat(self, text: str = "hello", **body: Any) -> httpx2.Response:
        messages = [{"role": "user", "content": text}]
        return await self.client.post("/v1/chat/completions", json={"messages": messages, **body})

    async def complete(self, prompt: Any = "hello", **body: Any) -> httpx2.Response:
        return await self.client.post("/v1/completions", json={"prompt": prompt, **body})


@asynccontextmanager
async def served_app(folder: Path, *, ready: bool = True, preparing_after_s: float = 30) -> AsyncIterator[ServedApp]:
    """A ready node on `folder`; with ready=False it is still loading. preparing_after_s as in SettingsKeeper."""
    engine = FakeEngine()
    store = NodeStore(folder)
    metrics = NodeMetrics(engine.model_name, "0.0.0")
    config = NodeConfig(model=Path("/nowhere"), served_model_name=engine.model_name)
    node = Node(config=config, store=store, metrics=metrics, admin_token=ADMIN_TOKEN, version="0.0.0")
    metrics.bind_ready(lambda: node.is_ready)
    if ready:
        engine.listener = metrics
        engine.start()
        keeper = SettingsKeeper(engine, store, preparing_after_s=preparing_after_s, count=metrics.count_change)
        metrics.bind(engine.stats, lambda: keeper.observed.generation, engine.hardware, engine.settings)
        metrics.bind_step_error(engine.step_error)
        node.engine, node.keeper, node.state = engine, keeper, NodeState.READY
    transport = httpx2.ASGITransport(app=create_app(node), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://node") as client:
        yield ServedApp(node, engine, client)
    await engine.shutdown(0)
