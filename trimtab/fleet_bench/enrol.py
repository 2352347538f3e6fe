"""Simulated nodes, enrolled: they stand in SQL as nodes that are ready, and nothing of them runs yet."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine

from controlplane.db import session_scope
from controlplane.fleets import service as fleets
from inference_node.contract.messages import NodeCapabilities, NodeHardware, NodeRegistration, NodeState
from inference_node.contract.settings import EngineSettings, Precision


def enrol(engine: Engine, nodes: int, pools: int, url: Callable[[int], str]) -> None:
    """node-0, node-1, ... in turn in pool-0, pool-1, ...; `url` tells where each is dialled."""
    now = datetime.now(UTC)
    with session_scope(engine) as session:
        for number in range(nodes):
            registered = fleets.register_node(session, _registration(number, url(number), pools), now=now)
            registered.node.state = NodeState.READY


def _registration(number: int, url: str, pools: int) -> NodeRegistration:
    return NodeRegistration(
        name=f"node-{number}", pool=f"pool-{number % pools}", model="simulated", url=url, admin_token="x" * 32,
        instance_id=f"node-{number}", version="0", settings=EngineSettings(), observed_generation=0,
        capabilities=NodeCapabilities(
            precisions=(Precision.BF16,), max_batch_size=512, max_batched_tokens=8192, max_model_len=2048, kv_tokens=65536
        ),
        hardware=NodeHardware(device="cpu", cpu_model="simulated", cpu_cores=1, threads=1, memory_bytes=2**30),
    )  # fmt: skip
